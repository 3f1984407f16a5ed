"""helm/Containerfile held against the tree and the release build, as far as that goes without a container engine.

CAIRN_RELEASE_BIN names the program (default build/cairn); one with sanitizers needs libraries that the image lacks."""
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

from pods import CHART, ENTRYPOINT, ROOT

BIN = os.environ.get("CAIRN_RELEASE_BIN", os.path.join(ROOT, "build/cairn"))


def instructions():
    """[(stage, instruction, rest)] with continued lines joined."""
    with open(os.path.join(ROOT, "helm/Containerfile"), encoding="utf-8") as text:
        lines = [line for line in text.read().splitlines() if not line.startswith("#")]
    found, stage = [], -1
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            stage += word == "FROM"
            found.append((stage, word, rest))
    return found


def rest_of(instruction, stage=1):
    return [rest for number, word, rest in instructions() if (number, word) == (stage, instruction)]


@functools.lru_cache(maxsize=None)
def dpkg_query(shown, package):
    done = subprocess.run(["dpkg-query", "--show", "--showformat", shown, package], capture_output=True, text=True,
                          check=False)
    return done.stdout if done.returncode == 0 else ""


@functools.lru_cache(maxsize=None)
def owner(path):
    """The package that a library belongs to. dpkg knows some by their old place, outside of /usr."""
    real = os.path.realpath(path)
    for name in (real, real[len("/usr"):] if real.startswith("/usr/") else real):
        done = subprocess.run(["dpkg", "--search", name], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    raise AssertionError("%s belongs to no package" % path)


def with_dependencies(packages):
    """Everything that installing the packages brings, by what is installed here."""
    found, waiting = set(), list(packages)
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        depends = dpkg_query("${Depends},${Pre-Depends}", package)
        for each in filter(None, re.split(r"\s*,\s*", depends)):
            names = [name.split()[0].split(":")[0] for name in each.split("|")]
            waiting += [name for name in names if dpkg_query("${db:Status-Status}", name) == "installed"][:1]
    return found


@functools.lru_cache(maxsize=None)
def libraries():
    """What the program is loaded with: paths as the loader names them, its own path among them."""
    listed = subprocess.run(["ldd", BIN], capture_output=True, text=True, check=True).stdout
    assert "not found" not in listed, listed
    return re.findall(r"(/\S+) \(0x", listed)


def installed_by_image():
    run, = [rest for rest in rest_of("RUN") if "apt-get install" in rest]
    words = re.search(r"apt-get install (.*?) &&", run).group(1).split()
    return [word for word in words if not word.startswith("-")]


class Containerfile(unittest.TestCase):
    def test_packages_bring_every_library(self):
        brought = with_dependencies(installed_by_image())
        missing = {path: owner(path) for path in libraries() if owner(path) not in brought}
        self.assertEqual(missing, {}, "packages to add in helm/Containerfile")

    def test_packages_are_those_that_the_program_names(self):
        shown = subprocess.run(["readelf", "--dynamic", BIN], capture_output=True, text=True, check=True).stdout
        named = re.findall(r"\(NEEDED\).*\[(.+)\]", shown)
        owners = {owner(path) for path in libraries() if os.path.basename(path) in named}
        self.assertEqual(sorted(installed_by_image()), sorted(owners - {"libc6"}))

    def test_built_where_it_will_run(self):
        bases = [rest.split()[0] for _, word, rest in instructions() if word == "FROM"]
        self.assertEqual([base.removesuffix("-slim") for base in bases], ["debian:12", "debian:12"])

    def test_steps_of_the_build_exist(self):
        steps = " && ".join(rest_of("RUN", stage=0))
        preset = re.search(r"cmake --preset (\S+)", steps).group(1)
        folder = re.search(r"cmake --build (\S+)", steps).group(1)
        with open(os.path.join(ROOT, "CMakePresets.json"), encoding="utf-8") as text:
            presets = {each["name"]: each for each in json.load(text)["configurePresets"]}
        self.assertEqual(presets[preset]["binaryDir"], folder)
        self.assertTrue(os.access(os.path.join(ROOT, "scripts/setup"), os.X_OK))
        source, = rest_of("WORKDIR", stage=0)
        self.assertEqual(rest_of("COPY"), ["--from=build %s/%s/cairn %s" % (source, folder, ENTRYPOINT)])
        self.assertIn("--target cairn", steps)

    def test_runs_as_the_user_of_the_chart(self):
        with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as text:
            values = yaml.safe_load(text)
        user = values["runAsUser"]
        self.assertEqual(rest_of("USER"), ["%d:%d" % (user, user)])
        self.assertEqual(rest_of("EXPOSE"), [str(values["port"])])
        self.assertEqual(json.loads(rest_of("ENTRYPOINT")[0]), [ENTRYPOINT])

    def test_build_trees_stay_out_of_the_image(self):
        with open(os.path.join(ROOT, ".containerignore"), encoding="utf-8") as text:
            ignored = text.read().split()
        with open(os.path.join(ROOT, ".gitignore"), encoding="utf-8") as text:
            made = [line.strip("/") for line in text.read().split() if line.startswith("/")]
        self.assertEqual([name for name in made if name not in ignored], [])

    @unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
    def test_runs_with_these_libraries_and_nothing_else(self):
        brought = with_dependencies(installed_by_image())
        user = int(rest_of("USER")[0].split(":")[0])
        with tempfile.TemporaryDirectory(prefix="cairn-image-") as root:
            os.chmod(root, 0o755)
            for path in libraries():
                if owner(path) in brought:
                    os.makedirs(root + os.path.dirname(path), exist_ok=True)
                    shutil.copy(path, root + path)
            os.makedirs(root + os.path.dirname(ENTRYPOINT), exist_ok=True)
            shutil.copy(BIN, root + ENTRYPOINT)
            for arguments, expected in ((["version"], r"cairn \d+\.\d+\.\d+\n"), (["--help"], "Usage: cairn")):
                done = subprocess.run(["/usr/sbin/chroot", "--userspec=%d:%d" % (user, user), root, ENTRYPOINT, *arguments],
                                      capture_output=True, text=True, env={}, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, expected)


if __name__ == "__main__":
    unittest.main()
