"""The command line against a real server: every command, its JSON form, its errors and exit codes."""
import base64
import gzip
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

import api_harness
from api_harness import BIN, DEADLINE_S, ROOT


def clean_environment(extra):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
    environment.update(extra)
    return environment


def run(*arguments, stdin="", env=None):
    return subprocess.run([BIN, *arguments], input=stdin, capture_output=True, text=True,
                          env=clean_environment(env or {}), timeout=DEADLINE_S, check=False)


class Server(api_harness.Server):
    def __init__(self, *flags, folder=None):
        super().__init__(*flags, folder=folder)
        # The last line of standard output; messages carry a time in front.
        self.ready = [line for line in self.messages().splitlines() if line.startswith(("cairn ", "{"))][-1]

    def messages(self):
        with open(self.log.name, encoding="utf-8") as text:
            return text.read()


def flip_byte(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


def segments(data, shard):
    folder = os.path.join(data, "shard-%04d" % shard, "log")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder)
                  if name.endswith(".seg"))


class WithoutServer(unittest.TestCase):
    def expect_usage(self, arguments, *texts, env=None):
        answer = run(*arguments, env=env)
        self.assertEqual(answer.returncode, 2, answer.stderr)
        self.assertEqual(answer.stdout, "")
        for text in texts:
            self.assertIn(text, answer.stderr)

    def test_version(self):
        answer = run("version")
        self.assertRegex(answer.stdout, r"^cairn \d+\.\d+\.\d+\n$")
        self.assertRegex(json.loads(run("version", "--json").stdout)["version"], r"^\d+\.\d+\.\d+$")

    def test_every_command_explains_itself(self):
        for command in (["serve"], ["collection", "create"], ["collection", "show"], ["collection", "list"],
                        ["collection", "drop"], ["put"], ["get"], ["search"], ["status"], ["rebalance"], ["jobs"], ["log", "dump"],
                        ["log", "check"], ["log", "repair"], ["version"]):
            answer = run(*command, "--help")
            self.assertEqual(answer.returncode, 0, command)
            self.assertIn("Usage: cairn " + " ".join(command), answer.stdout)
            self.assertIn("Examples:", answer.stdout)
        for command in ([], ["collection"], ["log"]):
            self.assertIn("Commands:", run(*command, "--help").stdout)
        self.assertIn("CAIRN_FREE_BYTES_MIN", run("serve", "--help").stdout)

    def test_unknown_words_get_the_nearest_hint(self):
        self.expect_usage(["serach"], "unknown command 'serach'", "did you mean 'search'?")
        self.expect_usage(["log", "chekc"], "did you mean 'check'?")
        self.expect_usage(["xyzzy"], "unknown command 'xyzzy'")
        self.expect_usage(["serve", "--dta", "x"], "unknown flag '--dta'", "did you mean --data?")
        self.expect_usage(["put", "words", "--mod=patch"], "did you mean --mode?")
        self.expect_usage([], "a command is missing")

    def test_wrong_values(self):
        self.expect_usage(["serve"], "--data DIR is missing")
        self.expect_usage(["serve", "--data"], "--data needs a value")
        self.expect_usage(["serve", "--data", "x", "--shards", "0"], "--shards is a number from 1 to 256", "'0'")
        self.expect_usage(["serve", "--data", "x", "--shards", "257"], "--shards is a number")
        self.expect_usage(["serve", "--data", "x", "--segment-bytes", "4q"], "--segment-bytes")
        self.expect_usage(["serve", "--data", "x", "--role", "shard"], "--id is missing")
        self.expect_usage(["serve", "--role", "router"], "--shard")
        self.expect_usage(["serve", "--data", "x", "--role", "king"], "--role is all, router or shard")
        self.expect_usage(["serve", "--data", "x", "--tls-cert", "c"], "--tls-cert and --tls-key go together")
        self.expect_usage(["serve", "--data", "x", "--log-level", "loud"], "--log-level")
        self.expect_usage(["put"], "an argument is missing")
        self.expect_usage(["put", "a", "b", "c"], "too many arguments")
        self.expect_usage(["put", "words", "--mode", "merge"], "--mode is patch or replace")
        self.expect_usage(["get", "words", "k", "--meta", "all"], "--meta")
        self.expect_usage(["search", "words"], "either --vector or --key")
        self.expect_usage(["search", "words", "--key", "a", "--vector", "[1]"], "either --vector or --key")
        self.expect_usage(["search", "words", "--vector", "[1,"], "--vector: ")
        self.expect_usage(["search", "words", "--key", "a", "-k", "10001"], "--k is a number from 1 to 10000")
        self.expect_usage(["collection", "create", "a", "--vector", "v:x"], "--vector is name:dim")
        self.expect_usage(["collection", "create", "a", "--feature", "f"], "--feature is name:type")
        self.expect_usage(["collection", "create", "a", "--feature", "f:bool", "--schema", "{}"], "either --schema")
        self.expect_usage(["status", "--url", "ftp://x"], "does not begin with http://")

    def test_the_environment_form(self):
        self.expect_usage(["serve", "--data", "x"], "CAIRN_SHARDS is a number", env={"CAIRN_SHARDS": "many"})
        self.expect_usage(["serve"], "--role", env={"CAIRN_DATA": "x", "CAIRN_ROLE": "king"})
        self.expect_usage(["version"], "CAIRN_JSON is true or false", env={"CAIRN_JSON": "maybe"})
        self.assertEqual(json.loads(run("version", env={"CAIRN_JSON": "1"}).stdout).keys(), {"version"})
        # The command line wins, and what it replaces is not even read.
        self.expect_usage(["serve", "--data", "x", "--shards", "2", "--role", "king"], "--role",
                          env={"CAIRN_SHARDS": "many"})

    def test_no_server(self):
        answer = run("status", "--url", "http://127.0.0.1:1")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("http://127.0.0.1:1", answer.stderr)

    def test_log_commands_need_a_log(self):
        folder = tempfile.mkdtemp(prefix="cairn-test-")
        self.addCleanup(shutil.rmtree, folder)
        for command in ("dump", "check", "repair"):
            answer = run("log", command, os.path.join(folder, "none"))
            self.assertEqual(answer.returncode, 1)
            self.assertIn("No such file", answer.stderr)
        answer = run("log", "dump", folder)
        self.assertEqual(answer.returncode, 1, answer.stdout)
        self.assertIn("there is no log", answer.stderr)
        self.assertEqual(os.listdir(folder), [])


class WithServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--shards", "2")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        shutil.rmtree(cls.server.folder)
        assert code == 0, code

    def cairn(self, *arguments, stdin="", code=0):
        answer = run(*arguments, stdin=stdin, env={"CAIRN_URL": self.server.url})
        self.assertEqual(answer.returncode, code, answer.stdout + answer.stderr)
        return answer

    def create(self, name, *flags):
        self.cairn("collection", "create", name, *flags)
        self.addCleanup(self.cairn, "collection", "drop", name)

    def test_ready_line(self):
        self.assertIn(" ready at " + self.server.url, self.server.ready)
        self.assertIn("2 shards, 0 records replayed", self.server.ready)

    def test_collection_life(self):
        answer = self.cairn("collection", "create", "life", "--vector", "v:3:l2:flat", "--feature", "a:int64",
                            "--feature", "tags:list<string>")
        self.assertIn("Created collection life", answer.stdout)
        answer = self.cairn("collection", "create", "life", "--schema", '{"features":{"b":{"type":"string"}}}')
        self.assertIn("Updated collection life", answer.stdout)
        shown = json.loads(self.cairn("collection", "show", "life", "--json").stdout)
        self.assertEqual(shown["vectors"]["v"]["dim"], 3)
        self.assertEqual(set(shown["features"]), {"a", "b", "tags"})
        text = self.cairn("collection", "show", "life").stdout
        for word in ("list<string>", "l2", "flat", "undeclared features are kept"):
            self.assertIn(word, text)
        self.assertIn("life", self.cairn("collection", "list").stdout)
        answer = self.cairn("collection", "create", "life", "--feature", "a:string", code=1)
        self.assertIn("schema_conflict: ", answer.stderr)
        self.assertIn("Dropped", self.cairn("collection", "drop", "life").stdout)
        answer = self.cairn("collection", "show", "life", code=1)
        self.assertIn("cairn collection show: collection_not_found: ", answer.stderr)
        problem = json.loads(self.cairn("collection", "show", "life", "--json", code=1).stderr)
        self.assertEqual((problem["code"], problem["status"]), ("collection_not_found", 404))

    def test_schema_from_file_and_standard_input(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"vectors": {"v": {"dim": 2}}}')
            file.flush()
            self.create("from-file", "--schema", file.name)
        self.cairn("collection", "create", "from-file", "--schema", "-", stdin='{"features":{"x":{"type":"bool"}}}')
        shown = json.loads(self.cairn("collection", "show", "from-file", "--json").stdout)
        self.assertEqual((set(shown["vectors"]), set(shown["features"])), ({"v"}, {"x"}))
        answer = run("collection", "create", "x", "--schema", "/nowhere.json")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("/nowhere.json: No such file", answer.stderr)

    def test_put_get_search(self):
        self.create("items", "--vector", "v:2:l2", "--feature", "name:string", "--feature", "n:int64")
        lines = [{"key": "k/%d ü" % i, "features": {"name": "item %d" % i, "n": i}, "vectors": {"v": [i, 0]}}
                 for i in range(50)]
        answer = self.cairn("put", "items", stdin="".join(json.dumps(line) + "\n" for line in lines))
        self.assertRegex(answer.stdout, r"^50 rows in .*, 50 applied\n$")
        answer = self.cairn("put", "items", "-", "--json", stdin=json.dumps(lines[7]) + "\n")
        self.assertEqual(json.loads(answer.stdout)["rows"], 1)

        answer = self.cairn("get", "items", "k/7 ü")
        self.assertRegex(answer.stdout, r"(?m)^k/7 ü\n  n +7\n|^k/7 ü\n  name +item 7\n")
        answer = self.cairn("get", "items", "k/7 ü", "--features", "n", "--meta", "full", "--vectors")
        self.assertRegex(answer.stdout, r"  n +present +\d{4}-.*Z +\d{4}-.*Z +s[01]:\d+ +7\n")
        self.assertRegex(answer.stdout, r"  v +\[7(\.0)?,0(\.0)?\]")
        answer = self.cairn("get", "items", "k/7 ü", "nobody", "--json", code=1)
        results = json.loads(answer.stdout)["results"]
        self.assertEqual([result["found"] for result in results], [True, False])
        self.assertEqual(results[0]["features"], {"name": "item 7", "n": 7})
        self.assertIn("nobody  not found", self.cairn("get", "items", "nobody", code=1).stdout)

        answer = self.cairn("search", "items", "--vector", "[7.2, 0]", "-k", "3", "--features", "name,n")
        table = [line.split() for line in answer.stdout.splitlines()]
        self.assertEqual(table[0], ["#", "score", "key", "name", "n"])
        self.assertEqual([row[-1] for row in table[1:]], ["7", "8", "6"])
        answer = self.cairn("search", "items", "--key", "k/7 ü", "-k", "2", "--exact", "--json",
                            "--filter", '{"feature":"n","gte":40}')
        self.assertEqual([hit["key"] for hit in json.loads(answer.stdout)["hits"]], ["k/40 ü", "k/41 ü"])
        query = base64.b64encode(struct.pack("<2f", 3, 0)).decode()
        answer = self.cairn("search", "items", "--vector", json.dumps({"f32": query}), "-k", "1", "--features", "*")
        self.assertIn("k/3 ü", answer.stdout)
        answer = self.cairn("search", "items", "--vector", "[1]", code=1)
        self.assertIn("invalid_dimension: ", answer.stderr)

    def test_put_reports_bad_lines_and_goes_on(self):
        self.create("strict", "--schema", '{"features":{"n":{"type":"int64"}},"strict":true}')
        good = '{"key":"a","features":{"n":1}}\n'
        answer = self.cairn("put", "strict", stdin=good + '{"key":"b","features":{"x":1}}\n\nnonsense\n' + good, code=1)
        self.assertRegex(answer.stdout, r"4 rows .*, 2 errors\n$")
        self.assertIn("standard input: line 2: unknown_feature: ", answer.stderr)
        self.assertIn("standard input: line 4: invalid_json: ", answer.stderr)
        answer = self.cairn("put", "strict", stdin="{}\n" * 30, code=1)
        self.assertEqual(answer.stderr.count("standard input: line "), 20)
        self.assertIn("further errors are counted", answer.stderr)
        answer = self.cairn("put", "nowhere", stdin=good, code=1)
        self.assertIn("collection_not_found: ", answer.stderr)
        answer = self.cairn("put", "strict", "/nowhere.ndjson", code=1)
        self.assertIn("cannot open /nowhere.ndjson: ", answer.stderr)

    def test_put_replace(self):
        self.create("modes", "--feature", "a:int64", "--feature", "b:int64")
        self.cairn("put", "modes", stdin='{"key":"k","features":{"a":1,"b":2}}\n')
        self.cairn("put", "modes", "--mode", "replace", stdin='{"key":"k","features":{"a":3}}\n')
        result = json.loads(self.cairn("get", "modes", "k", "--json").stdout)["results"][0]
        self.assertEqual(result["features"], {"a": 3})

    def test_control_characters_do_not_reach_the_terminal(self):
        self.create("escape", "--feature", "a:string")
        self.cairn("put", "escape", stdin=json.dumps({"key": "k", "features": {"a": "x\u001b[31my\u009bz"}}) + "\n")
        text = self.cairn("get", "escape", "k").stdout
        self.assertNotIn("\u001b", text)
        self.assertIn("x?[31my", text)

    def test_status(self):
        self.create("seen", "--vector", "v:4")
        text = self.cairn("status").stdout
        self.assertRegex(text, r"(?m)^s0 +serving ")
        self.assertRegex(text, r"(?m)^s1 +serving ")
        self.assertRegex(text, r"(?m)^seen +0 +v ")
        status = json.loads(self.cairn("status", "--json").stdout)
        self.assertEqual([shard["id"] for shard in status["cluster"]["shards"]], ["s0", "s1"])
        self.assertIn("seen", [collection["name"] for collection in status["collections"]])

    def load_sample(self):
        self.create("words", "--schema", os.path.join(ROOT, "scripts/wordnet-schema.json"))
        with gzip.open(os.path.join(ROOT, "scripts/sample/wordnet-sample.ndjson.gz"), "rt", encoding="utf-8") as file:
            text = file.read()
        answer = json.loads(self.cairn("put", "words", "--json", stdin=text).stdout)
        self.assertEqual((answer["rows"], answer["errors"]), (text.count("\n"), 0))

    def test_sample_data_has_sensible_neighbours(self):
        self.load_sample()
        answer = self.cairn("search", "words", "--key", "dog.n.01", "-k", "5", "--json", "--exact")
        near = {hit["key"].split(".")[0] for hit in json.loads(answer.stdout)["hits"]}
        self.assertTrue(near & {"cat", "pup", "animal", "cow", "horse", "bird"}, near)

    def test_the_curl_examples_of_the_readme(self):
        self.load_sample()
        self.addCleanup(self.cairn, "collection", "drop", "users")
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            section = file.read().split("## What to do next")[1]
        script = section.split("```sh\n")[1].split("```")[0]
        self.assertEqual(script.count("curl -s "), 5)
        script = script.replace("curl -s ", "curl -sS --fail ").replace("localhost:8080", self.server.url)
        answer = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        self.assertIn("noun.animal", script)
        self.assertIn('"u1"', answer.stdout)

    def test_log_commands_refuse_a_running_server(self):
        for command in ("dump", "check", "repair"):
            for folder in ("", "shard-0001", "shard-0001/log"):
                answer = run("log", command, os.path.join(self.server.data, folder))
                self.assertEqual(answer.returncode, 1, folder)
                self.assertIn("in use by a running server", answer.stderr)


class Logs(unittest.TestCase):
    """One data directory, stopped cleanly, looked at and damaged."""

    def setUp(self):
        self.server = Server("--shards", "2")
        self.addCleanup(shutil.rmtree, self.server.folder)
        env = {"CAIRN_URL": self.server.url}
        lines = "".join(json.dumps({"key": "k%d" % i, "features": {"n": i, "text": "x" * 100},
                                    "vectors": {"v": [i, 1]}}) + "\n" for i in range(200))
        run("collection", "create", "c", "--vector", "v:2", env=env)
        self.assertEqual(run("put", "c", stdin=lines, env=env).returncode, 0)
        self.assertEqual(self.server.stop(), 0)
        self.data = self.server.data

    def test_check_and_dump_of_a_whole_log(self):
        answer = run("log", "check", self.data)
        self.assertEqual(answer.returncode, 0, answer.stdout)
        self.assertEqual(answer.stdout.count("no damage"), 2)
        report = json.loads(run("log", "check", self.data, "--json").stdout)["logs"]
        # 200 entities; the map and the schema on each of the two shards.
        self.assertEqual(sum(log["records"] for log in report), 204)

        lines = [json.loads(line) for line in run("log", "dump", self.data, "--json").stdout.splitlines()]
        self.assertEqual(sum(line["kind"] == "schema" for line in lines), 2)
        entities = {line["key"]: line for line in lines if line["kind"] == "entity"}
        self.assertEqual(len(entities), 200)
        self.assertEqual(entities["k7"]["features"]["n"], 7)
        vector = struct.unpack("<2f", base64.b64decode(entities["k7"]["vectors"]["v"]["f32"]))
        self.assertEqual(vector, (7.0, 1.0))
        answer = run("log", "dump", os.path.join(self.data, "shard-0000"), "--from", "3", "--limit", "2")
        self.assertRegex(answer.stdout, r'^s0:3  \S+Z  c\d+  patch  k\d+  \{"n":\d+.*v\[2\]\ns0:4  .*\n$')

    def test_torn_tail_is_reported_and_left_to_the_next_start(self):
        path = segments(self.data, 1)[-1]
        size = os.path.getsize(path)
        with open(path, "ab") as file:
            file.write(b"\x17" * 77)
        with open(path, "rb") as file:
            before = file.read()
        answer = run("log", "check", self.data)
        self.assertEqual(answer.returncode, 0)
        self.assertIn("the next start cuts it", answer.stdout)
        answer = run("log", "dump", self.data)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("a torn tail of 77 bytes", answer.stderr)
        self.assertEqual(answer.stdout.count("\n"), 204)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)
        server = Server(folder=self.server.folder)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(os.path.getsize(path), size)

    def test_damage_is_found_and_repaired_by_hand(self):
        path = segments(self.data, 0)[0]
        flip_byte(path, os.path.getsize(path) // 2)
        answer = run("log", "check", self.data)
        self.assertEqual(answer.returncode, 1)
        self.assertIn(os.path.basename(path), answer.stdout)
        self.assertIn("still verify on their own", answer.stdout)
        answer = run("log", "dump", self.data)
        self.assertEqual(answer.returncode, 1)
        self.assertRegex(answer.stderr, r"cairn log dump: .*\.seg: flipped at byte \d+, offset \d+: ")

        server = Server(folder=self.server.folder)
        env = {"CAIRN_URL": server.url}
        self.assertIn("read_only", run("status", env=env).stdout)
        self.assertEqual(run("get", "c", *["k%d" % i for i in range(200)], env=env).returncode, 0)
        self.assertEqual(server.stop(), 0)

        answer = run("log", "repair", self.data)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("set aside", answer.stdout)
        self.assertEqual(run("log", "check", self.data).returncode, 0)
        server = Server(folder=self.server.folder)
        self.assertNotIn("read_only", run("status", env={"CAIRN_URL": server.url}).stdout)
        self.assertEqual(server.stop(), 0)


class Serving(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cairn-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def test_port_file_and_signals(self):
        server = Server("--shards", "1", "--json", folder=self.folder)
        ready = json.loads(server.ready)
        self.assertEqual((ready["url"], ready["shards"], ready["replayed"]), (server.url, 1, 0))
        self.assertEqual(server.stop(), 0)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "port")))

    def test_interrupt_ends_it_too(self):
        server = Server(folder=self.folder)
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(timeout=DEADLINE_S), 0)
        server.stop()

    def test_a_second_signal_ends_a_drain_at_once(self):
        server = Server(folder=self.folder)
        self.addCleanup(server.stop)
        run("collection", "create", "c", env={"CAIRN_URL": server.url})
        host, port = server.url[len("http://"):].split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as upload:
            upload.sendall(b"POST /v1/collections/c/entities HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"b\r\n{\"key\":\"a\"}\r\n")
            # The server has the request in hand once another one, sent later, is answered.
            self.assertEqual(run("status", env={"CAIRN_URL": server.url}).returncode, 0)
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + DEADLINE_S
            while "draining" not in server.messages() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertIsNone(server.process.poll())
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=10), 128 + signal.SIGTERM)

    def test_the_data_directory_belongs_to_one_server(self):
        server = Server(folder=self.folder)
        self.addCleanup(server.stop)
        answer = run("serve", "--data", server.data, "--listen", "127.0.0.1:0")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("in use by another process", answer.stderr)

    def test_another_number_of_shards_is_refused(self):
        self.assertEqual(Server("--shards", "1", folder=self.folder).stop(), 0)
        answer = run("serve", "--data", os.path.join(self.folder, "data"), "--shards", "3", "--listen", "127.0.0.1:0")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("shards", answer.stderr)

    def test_a_taken_port_is_an_error(self):
        server = Server(folder=self.folder)
        self.addCleanup(server.stop)
        other = os.path.join(self.folder, "other")
        answer = run("serve", "--data", other, "--listen", server.url[len("http://"):])
        self.assertEqual(answer.returncode, 1)
        self.assertNotEqual(answer.stderr, "")

    def test_keys_are_sent(self):
        keys = os.path.join(self.folder, "keys")
        with open(keys, "w", encoding="ascii") as file:
            file.write("admin secret-1\n")
        server = Server("--api-keys-file", keys, folder=self.folder)
        self.addCleanup(server.stop)
        answer = run("status", "--url", server.url)
        self.assertEqual(answer.returncode, 1)
        self.assertIn("unauthorized: ", answer.stderr)
        self.assertEqual(run("status", "--url", server.url, "--api-key", "secret-1").returncode, 0)
        answer = run("status", env={"CAIRN_URL": server.url, "CAIRN_API_KEY": "secret-1"})
        self.assertEqual(answer.returncode, 0)

    def test_a_kill_loses_nothing_and_replays(self):
        server = Server(folder=self.folder)
        env = {"CAIRN_URL": server.url}
        run("collection", "create", "c", env=env)
        lines = "".join('{"key":"k%d","features":{"n":%d}}\n' % (i, i) for i in range(100))
        self.assertEqual(run("put", "c", stdin=lines, env=env).returncode, 0)
        server.process.kill()
        server.process.wait(timeout=DEADLINE_S)
        server.stop()
        server = Server(folder=self.folder)
        self.addCleanup(server.stop)
        self.assertRegex(server.ready, r"\d+ records replayed")
        answer = run("get", "c", *["k%d" % i for i in range(100)], env={"CAIRN_URL": server.url})
        self.assertEqual(answer.returncode, 0)


if __name__ == "__main__":
    unittest.main()
