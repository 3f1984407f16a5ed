#!/usr/bin/env python3
"""Turn the WordNet database into training text, and with trained vectors into Cairn entities.

    wordnet.py text DICT TRAINING SENTENCES    text to train on, and one sentence per synset
    wordnet.py entities DICT VECTORS OUT       NDJSON of entities; VECTORS has one line per synset
    wordnet.py sample ENTITIES COUNT OUT       the COUNT most used synsets of each domain, as gzip

DICT is the directory of data.noun and its like. Only Python's standard library is needed.
"""

import array
import base64
import gzip
import json
import os
import re
import sys

PARTS = (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r"))
PART_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
TYPE_OF_SENSE_KEY = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}

# The lexicographer files by number: lexnames(5WN).
DOMAINS = """adj.all adj.pert adv.all noun.tops noun.act noun.animal noun.artifact noun.attribute
noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group
noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant noun.possession
noun.process noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body
verb.change verb.cognition verb.communication verb.competition verb.consumption verb.contact
verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl""".split()

# Words too common to say what a gloss is about.
STOP_WORDS = frozenset("""a about above after all also among an and any are as at be been being
between both but by can do does each especially etc for from had has have having he her his how if
in into is it its itself may more most no not of off on one only or other out over own she so some
someone something such than that the their them then there these they this those through to under
up used usually very was were what when where which who whose will with without you your""".split())

RELATED_MAX = 8  # hyponyms named in one training line


class Synset:
    __slots__ = ("offset", "part", "domain", "lemmas", "gloss", "examples", "pointers", "key",
                 "rank", "tag_count")


def parse_line(line):
    """One line of a data file: wndb(5WN)."""
    fields, _, gloss = line.partition(" | ")
    fields = fields.split(" ")
    synset = Synset()
    synset.offset = fields[0]
    synset.domain = DOMAINS[int(fields[1])]
    synset.part = fields[2]
    words = int(fields[3], 16)
    synset.lemmas = [re.sub(r"\((a|p|ip)\)$", "", word) for word in fields[4:4 + 2 * words:2]]
    at = 4 + 2 * words
    pointers = int(fields[at])
    synset.pointers = [(fields[i], fields[i + 2], fields[i + 1])
                       for i in range(at + 1, at + 1 + 4 * pointers, 4)]
    examples = re.findall(r'"([^"]+)"', gloss)
    definition = re.sub(r'(;\s*)?"[^"]+"[^;]*', "", gloss).strip(" ;\n")
    synset.gloss = definition or gloss.strip()
    synset.examples = examples
    return synset


def read_senses(dict_dir, suffix):
    """(lemma, synset offset) -> sense number, 1 being the word's most used sense."""
    senses = {}
    with open(os.path.join(dict_dir, "index." + suffix), encoding="latin-1") as lines:
        for line in lines:
            if line.startswith(" "):
                continue
            fields = line.split()
            for number, offset in enumerate(fields[-int(fields[2]):], 1):
                senses[fields[0], offset] = number
    return senses


def read_tag_counts(dict_dir):
    """(lemma, part of speech, sense number) -> times tagged in the concordance texts."""
    counts = {}
    with open(os.path.join(dict_dir, "cntlist.rev"), encoding="latin-1") as lines:
        for line in lines:
            sense_key, number, count = line.split()
            lemma, _, rest = sense_key.partition("%")
            counts[lemma, TYPE_OF_SENSE_KEY[rest[0]], int(number)] = int(count)
    return counts


def read_wordnet(dict_dir):
    """All synsets in file order, each with a key such as ocean.n.01 that no other has."""
    tag_counts = read_tag_counts(dict_dir)
    synsets = []
    for suffix, part in PARTS:
        senses = read_senses(dict_dir, suffix)
        with open(os.path.join(dict_dir, "data." + suffix), encoding="latin-1") as lines:
            for line in lines:
                if line.startswith(" "):
                    continue
                synset = parse_line(line)
                numbers = [senses[lemma.lower(), synset.offset] for lemma in synset.lemmas]
                synset.rank = numbers[0]
                synset.key = "%s.%s.%02d" % (synset.lemmas[0].lower(), part, numbers[0])
                synset.tag_count = sum(tag_counts.get((lemma.lower(), part, number), 0)
                                       for lemma, number in zip(synset.lemmas, numbers))
                synsets.append(synset)
    return synsets


def by_address(synsets):
    """(part of speech, offset) -> synset; satellites are addressed as adjectives."""
    return {("a" if synset.part == "s" else synset.part, synset.offset): synset
            for synset in synsets}


def related(synset, addresses, *symbols):
    return [addresses["a" if part == "s" else part, offset]
            for symbol, part, offset in synset.pointers if symbol in symbols]


def words_of(text):
    return [word for word in re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*", text.lower())
            if word not in STOP_WORDS]


def tokens_of(lemma):
    """A lemma as tokens: the whole (sea_level) and, when it has several words, each of them."""
    lemma = lemma.lower()
    parts = [part for part in lemma.split("_") if part not in STOP_WORDS]
    return [lemma] if len(parts) < 2 else [lemma] + parts


def tokens_of_all(synsets):
    return [token for synset in synsets for token in tokens_of(synset.lemmas[0])]


def training_lines(synset, addresses):
    """Text in which a word stands beside what it means: its definition with the word set among the
    definition's words, its examples, and its neighbours in WordNet's graph."""
    lemmas = [lemma.lower() for lemma in synset.lemmas]
    parents = related(synset, addresses, "@", "@i", "&", "\\", "<")
    line = []
    for number, word in enumerate(words_of(synset.gloss)):
        if number % 3 == 0:
            line.append(lemmas[number // 3 % len(lemmas)])
        line.append(word)
    yield line + [lemmas[0]] + [parent.lemmas[0].lower() for parent in parents[:2]]
    for example in synset.examples:
        yield words_of(example)
    children = related(synset, addresses, "~", "~i", "&", "+", "#p", "%p", "%m")[:RELATED_MAX]
    if len(lemmas) > 1 or parents or children:
        yield ([token for lemma in synset.lemmas for token in tokens_of(lemma)]
               + tokens_of_all(parents[:3]))
        yield lemmas[:1] + [child.lemmas[0].lower() for child in children] + lemmas[:1]


def sentence_of(synset, addresses):
    """What a synset's vector is made from. Repetition weighs: the lemmas count most."""
    lemmas = [token for lemma in synset.lemmas for token in tokens_of(lemma)]
    parents = related(synset, addresses, "@", "@i", "&", "\\")[:3]
    return lemmas[:1] * 2 + lemmas * 2 + tokens_of_all(parents) + words_of(synset.gloss)


def write_text(dict_dir, training_path, sentences_path):
    synsets = read_wordnet(dict_dir)
    addresses = by_address(synsets)
    with open(training_path, "w", encoding="utf-8") as out:
        for synset in synsets:
            for line in training_lines(synset, addresses):
                if len(line) > 1:
                    out.write(" ".join(line) + "\n")
    with open(sentences_path, "w", encoding="utf-8") as out:
        for synset in synsets:
            out.write(" ".join(sentence_of(synset, addresses)) + "\n")
    print("%d synsets" % len(synsets))


def entity_of(synset, addresses, vector):
    word = synset.lemmas[0].replace("_", " ")
    return {
        "key": synset.key,
        "features": {
            "word": word,
            "lemmas": [lemma.replace("_", " ") for lemma in synset.lemmas],
            "gloss": synset.gloss,
            "examples": synset.examples,
            "part_of_speech": PART_NAMES[synset.part],
            "domain": synset.domain,
            "broader": [parent.key for parent in related(synset, addresses, "@", "@i")],
            "synonyms_count": len(synset.lemmas) - 1,
            "relations_count": len(synset.pointers),
            "gloss_length": len(synset.gloss),
            "word_length": len(word),
            "tag_count": synset.tag_count,
            "sense_rank": synset.rank,
        },
        "vectors": {"default": {"f32": base64.b64encode(vector).decode("ascii")}},
    }


def read_vectors(path):
    """Little-endian float32 bytes of each line's numbers."""
    with open(path, encoding="ascii") as lines:
        for line in lines:
            vector = array.array("f", map(float, line.split()))
            if sys.byteorder == "big":
                vector.byteswap()
            yield vector.tobytes()


def write_entities(dict_dir, vectors_path, out_path):
    synsets = read_wordnet(dict_dir)
    addresses = by_address(synsets)
    written = 0
    with open(out_path, "w", encoding="utf-8") as out:
        for synset, vector in zip(synsets, read_vectors(vectors_path)):
            json.dump(entity_of(synset, addresses, vector), out, ensure_ascii=False,
                      separators=(",", ":"))
            out.write("\n")
            written += 1
    if written != len(synsets):
        sys.exit("%s has %d vectors for %d synsets" % (vectors_path, written, len(synsets)))
    print("%d entities" % written)


def round_vector(text):
    """Keep 16 bits of each component, so that the sample compresses well."""
    words = array.array("I", base64.b64decode(text))
    rounded = array.array("I", (((word + 0x8000) & 0xFFFF0000) for word in words))
    return base64.b64encode(rounded.tobytes()).decode("ascii")


def write_sample(entities_path, count, out_path):
    with open(entities_path, encoding="utf-8") as lines:
        entities = [json.loads(line) for line in lines]
    entities.sort(key=lambda entity: (-entity["features"]["tag_count"], entity["key"]))
    taken = dict.fromkeys(DOMAINS, 0)
    with open(out_path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as out:
        for entity in entities:
            domain = entity["features"]["domain"]
            if taken[domain] == count:
                continue
            taken[domain] += 1
            vector = entity["vectors"]["default"]
            vector["f32"] = round_vector(vector["f32"])
            out.write(json.dumps(entity, ensure_ascii=False, separators=(",", ":")).encode())
            out.write(b"\n")


def main(arguments):
    if len(arguments) == 4 and arguments[0] == "text":
        write_text(*arguments[1:])
    elif len(arguments) == 4 and arguments[0] == "entities":
        write_entities(*arguments[1:])
    elif len(arguments) == 4 and arguments[0] == "sample":
        write_sample(arguments[1], int(arguments[2]), arguments[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
