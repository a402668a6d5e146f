"""Claim: a tokenizer folder gives the same ids in Haina, in transformers, on vLLM's path and in llama.cpp.

Encodes 10,000 lines of all kinds (`mixed_lines.py`) and counts those whose ids, and whose text after decoding, are the
same; then chats whose messages try to write special tokens, through the folder's own template and through ChatML.

Run: python benchmarks/same_ids.py --tokenizer DIR [--llama-python PYTHON] [--data ../shared/data] [--json FILE]
llama.cpp comes from llama-cpp-python, in this interpreter or in the one that --llama-python names.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Ids = list[int]
TURNS = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{{ message['content'] | FILTERS }}"
TURNS += "{{ '<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}"


def llama_child(model_path: str, lines_path: str, out_path: str) -> None:
    """Runs where llama_cpp is and nothing of ours: ids and bytes of every line, as JSON."""
    import ctypes

    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(model_path.encode(), parameters)
    if not model:
        sys.exit(f"{model_path}: llama.cpp does not open it")
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def encode(text: str, add_special: bool, parse_special: bool) -> Ids:
        data = text.encode()
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), ids, room, add_special, parse_special)
        return list(ids[:count])

    def decodes_to(ids: Ids, data: bytes) -> bool:
        buffer = ctypes.create_string_buffer(len(data) + 64)
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        count = llama_cpp.llama_detokenize(vocabulary, tokens, len(ids), buffer, len(buffer), False, True)
        return buffer.raw[: max(count, 0)] == data and count >= 0

    work = json.loads(Path(lines_path).read_text("utf-8"))
    text = [encode(line, False, False) for line in work["lines"]]
    out = {
        "version": llama_cpp.__version__,
        "text": text,
        "framed": [encode(line, True, False) for line in work["lines"]],
        "marks": [encode(line, False, True) for line in work["lines"]],
        "decoded": [decodes_to(ids, line.encode()) for ids, line in zip(text, work["lines"], strict=True)],
        "prompts": [encode(prompt, False, True) for prompt in work["prompts"]],
    }
    Path(out_path).write_text(json.dumps(out), "utf-8")


def run_llama(python: str, folder: Path, lines: list[str], prompts: list[str]) -> dict[str, Any]:
    """What `llama_child` finds."""
    from haina.runtime.gguf_vocabulary import write_vocabulary

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_vocabulary(folder, place / "vocabulary.gguf")
        (place / "lines.json").write_text(json.dumps({"lines": lines, "prompts": prompts}), "utf-8")
        files = [str(place / file) for file in ("vocabulary.gguf", "lines.json", "out.json")]
        subprocess.run([python, str(Path(__file__).resolve()), "--child", *files], check=True)
        found: dict[str, Any] = json.loads((place / "out.json").read_text("utf-8"))
        return found


def alike(found: Iterable[Any], wanted: Iterable[Any]) -> list[bool]:
    """For each line, whether the two are equal."""
    return [one == other for one, other in zip(found, wanted, strict=True)]


def compare_lines(folder: Path, lines: list[str], llama: dict[str, Any]) -> list[tuple[str, list[bool]]]:
    """What is compared, and for each line whether it is the same."""
    from transformers import AutoTokenizer

    from haina.runtime.bpe import FastEncoder
    from haina.runtime.tokenizer_file import TokenizerFile

    ours = TokenizerFile(folder)
    auto = AutoTokenizer.from_pretrained(folder)
    # As vllm/tokenizers/hf.py opens it for generation.
    vllm = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, revision=None, cache_dir=None, truncation_side="left"
    )
    # The reference is Hugging Face tokenizers without anything of ours around it.
    ids = [encoding.ids for encoding in ours.backend.encode_batch(lines, add_special_tokens=False)]
    framed = [ours.encode(line, add_special_tokens=True) for line in lines]
    rows = [
        ("haina: ids", alike(ours.encode_batch(lines), ids)),
        ("haina: ids with <s>", alike(framed, [[ours.bos_id, *row] for row in ids])),
        ("haina: text", alike((ours.decode(row, skip_special_tokens=False) for row in ids), lines)),
        ("AutoTokenizer: ids", alike((auto(x, add_special_tokens=False)["input_ids"] for x in lines), ids)),
        ("AutoTokenizer: ids with <s>", alike((auto(line)["input_ids"] for line in lines), framed)),
        ("AutoTokenizer: text", alike((auto.decode(row) for row in ids), lines)),
        ("vLLM's calls: ids with <s>", alike((vllm.encode(x, truncation=False) for x in lines), framed)),
    ]
    fast = FastEncoder.open(folder / "tokenizer.json")
    if fast is not None:
        rows += [
            ("FastEncoder: ids", alike((fast.encode(line).tolist() for line in lines), ids)),
            ("FastEncoder: bytes", alike(map(fast.decode_bytes, ids), (line.encode() for line in lines))),
        ]
    if llama:
        reading = AutoTokenizer.from_pretrained(folder, split_special_tokens=False)
        marks = [reading(line, add_special_tokens=False)["input_ids"] for line in lines]
        rows += [
            ("llama.cpp: ids", alike(llama["text"], ids)),
            ("llama.cpp: ids with <s>", alike(llama["framed"], framed)),
            ("llama.cpp: bytes", llama["decoded"]),
            ("llama.cpp and AutoTokenizer, special tokens read in both", alike(llama["marks"], marks)),
        ]
    return rows


def marks_of(ids: Sequence[int], specials: frozenset[int]) -> Ids:
    """The special tokens among `ids`."""
    return [token for token in ids if token in specials]


class Chats:
    """Attacking chats through one folder, and the calm chat that has the same marks."""

    def __init__(self, name: str, folder: Path, chats: list[list[dict[str, str]]]) -> None:
        from haina.inference.chat import ChatTemplate
        from haina.runtime.tokenizer_file import TokenizerFile

        self.name, self.folder, self.chats = name, folder, chats
        self.ours = ChatTemplate(TokenizerFile(folder))
        self.specials = frozenset(self.ours.specials.values())
        self.calm = [{**message, "content": "海 sea"} for message in chats[0]]
        # As llama-cpp-python and llama.cpp's server render before they read marks.
        names = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
        self.prompts = [
            self.ours.template.render(messages=chat, **names) for chat in [self.calm, *self.chats]
        ]

    def rows(self, llama_ids: list[Ids]) -> list[tuple[str, list[bool]]]:
        """For each engine and chat, whether it holds the marks of the calm chat and no other."""
        from transformers import AutoTokenizer

        auto = AutoTokenizer.from_pretrained(self.folder)
        engines: dict[str, Callable[[list[dict[str, str]]], Ids]] = {
            "haina": self.ours.encode,
            "transformers": lambda x: auto.apply_chat_template(x, add_generation_prompt=True)["input_ids"],
            "vLLM's calls": lambda x: auto.encode(
                auto.apply_chat_template(x, add_generation_prompt=True, tokenize=False),
                add_special_tokens=False,
            ),
        }
        rows = []
        for engine, encode in engines.items():
            wanted = marks_of(encode(self.calm), self.specials)
            rows.append((engine, [marks_of(encode(chat), self.specials) == wanted for chat in self.chats]))
        if llama_ids:
            wanted, *found = (marks_of(ids, self.specials) for ids in llama_ids)
            rows.append(("llama.cpp", [marks == wanted for marks in found]))
        return [(f"{self.name}, {engine}", good) for engine, good in rows]


def compare(folder: Path, llama_python: str | None, count: int, data: Path) -> dict[str, Any]:
    """All figures."""
    import transformers

    from haina.runtime.tokenizer_file import TokenizerFile
    from haina.tokenizer.folder import write_folder
    from haina.tokenizer.special_tokens import BREAKING_FILTERS
    from mixed_lines import attacking_chats, mixed_lines

    lines, kinds = mixed_lines(count, data)
    tokenizer = TokenizerFile(folder)
    with tempfile.TemporaryDirectory() as place:
        write_folder(Path(place), tokenizer.backend, TURNS.replace("FILTERS", BREAKING_FILTERS))
        chats = attacking_chats(max(count // 20, 1))
        own, turns = Chats("the folder's template", folder, chats), Chats("ChatML", Path(place), chats)
        llama = run_llama(llama_python, folder, lines, own.prompts + turns.prompts) if llama_python else {}
        ids = llama.get("prompts", [])
        chat_rows = own.rows(ids[: len(own.prompts)]) + turns.rows(ids[len(own.prompts) :])
    line_rows = compare_lines(folder, lines, llama)
    return {
        "tokenizer": str(folder),
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "lines": len(lines),
        "bytes": sum(len(line.encode()) for line in lines),
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "transformers": transformers.__version__,
        "llama-cpp-python": llama.get("version"),
        "same": [
            {
                "what": name,
                "same": sum(good),
                "of": len(good),
                "first_different": None if all(good) else lines[good.index(False)][:200],
            }
            for name, good in line_rows
        ],
        "chats": [{"what": name, "unforged": sum(good), "of": len(good)} for name, good in chat_rows],
    }


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        llama_child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, help="default: learnt now, kept in build/")
    parser.add_argument("--llama-python", help="a Python that has llama_cpp")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = options.llama_python or (sys.executable if importlib.util.find_spec("llama_cpp") else None)
    from trained_tokenizer import tokenizer_folder  # the child's Python has llama_cpp and little else

    result = compare(tokenizer_folder(options.tokenizer), python, options.lines, options.data)
    print(f"{result['tokenizer']}: {result['vocab_size']:,} ids")
    print(
        f"{result['lines']:,} lines, {result['bytes'] / 1e6:.1f} MB; the same as Hugging Face tokenizers gives"
    )
    for row in result["same"]:
        print(f"  {row['what']:<58} {row['same']:>6} of {row['of']}  {100 * row['same'] / row['of']:.2f} %")
        if row["first_different"] is not None:
            print(f"      first: {row['first_different']!a}")
    print("chats whose messages spell special tokens; those with the template's own and no other")
    for row in result["chats"]:
        print(f"  {row['what']:<58} {row['unforged']:>6} of {row['of']}")
    if python is None:
        print("llama.cpp was not measured: no llama_cpp here; name a Python that has it with --llama-python")
    if options.json:
        options.json.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
