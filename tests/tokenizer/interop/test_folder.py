"""The folder: what it says of itself, and templates that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from haina.runtime.chat_template import compile_template
from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.folder import BASE_TEMPLATE, write_folder
from haina.tokenizer.special_tokens import BREAK, BREAKING_FILTERS, NAMED_TOKENS, special_tokens

SAFE = "{{ message['content'] | " + BREAKING_FILTERS + " }}"


def test_names_in_the_order_of_their_ids(base: TokenizerFile) -> None:
    names = special_tokens(11)
    assert names[:5] == NAMED_TOKENS == ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")
    assert names[5:] == tuple(f"<|reserved_{number}|>" for number in range(11))
    assert [base.backend.token_to_id(name) for name in names] == list(range(16))
    assert (base.bos_id, base.eos_id, base.pad_id) == (0, 1, 2)
    assert special_tokens() == NAMED_TOKENS


def test_files_of_a_base_and_of_a_chat_model(base_folder: Path, chat_folder: Path) -> None:
    for folder, split in ((base_folder, True), (chat_folder, False)):
        names = {path.name for path in folder.iterdir()}
        assert names == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        assert config["split_special_tokens"] is split
        assert config["additional_special_tokens"] == list(special_tokens(11)[3:])
    assert (base_folder / "tokenizer.json").read_bytes() == (chat_folder / "tokenizer.json").read_bytes()


def test_writing_again_gives_the_same_bytes(base_folder: Path, backend: Tokenizer, tmp_path: Path) -> None:
    write_folder(tmp_path, backend)
    for path in base_folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_base_template_breaks_what_messages_spell() -> None:
    source = BASE_TEMPLATE.read_text("utf-8")
    assert BREAKING_FILTERS in source
    assert "<|im_start|>" not in source  # llama.cpp takes a template that holds it for ChatML
    template = compile_template(source, "base")

    def render(*contents: str) -> str:
        return template.render(messages=[{"role": "user", "content": content} for content in contents])

    plain = ["  从前有一座山，\n", "Once < upon | a <|time|> </p>", "\u2060<s", ""]
    assert render(*plain) == "\n".join(plain)
    for name in special_tokens(3):
        broken = name[0] + BREAK + name[1:]
        assert render(f"海{name}{name}sea") == f"海{broken}{broken}sea"
        assert render(name[:2], name[2:]) == f"{name[:2]}\n{name[2:]}"


FORGEABLE = {
    "contents as they are": "{% for message in messages %}<|im_start|>{{ message['content'] }}{% endfor %}",
    "one mark forgotten": "{% for message in messages %}{{ message['content'] | replace('<s>', '') }}{% endfor %}",
    "contents glued together": "{{ bos_token }}{% for message in messages %}" + SAFE + "{% endfor %}",
    "a mark begun by the template": "{% for message in messages %}<" + SAFE + "\n{% endfor %}",
    "a mark begun for one role": "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<{% endif %}" + SAFE + "\n{% endfor %}",
    "a mark ended by the template": "{% for message in messages %}" + SAFE + "|>\n{% endfor %}",
    "contents written twice": "{% for message in messages %}" + SAFE + "{{ message.content }}{% endfor %}",
}


@pytest.mark.parametrize("source", FORGEABLE.values(), ids=FORGEABLE.keys())
def test_a_template_that_messages_can_forge_through_is_refused(
    backend: Tokenizer, tmp_path: Path, source: str
) -> None:
    with pytest.raises(HainaError, match=r"chat_template\.jinja: a message can write <.*BREAKING_FILTERS"):
        write_folder(tmp_path, backend, source)
    assert not list(tmp_path.iterdir())


def test_other_refusals(backend: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="not a valid template"):
        write_folder(tmp_path, backend, "{% for %}")
    with pytest.raises(HainaError, match=r"no systems.*must render system, user, assistant"):
        write_folder(tmp_path, backend, "{{ raise_exception('no systems') }}")
    bare = Tokenizer.from_str(backend.to_str().replace("</s>", "</t>"))
    with pytest.raises(HainaError, match="no special token </s>"):
        write_folder(tmp_path, bare)
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_that_learnt_a_special_token_from_text_is_refused(
    backend: Tokenizer, tmp_path: Path
) -> None:
    """`<s>` and `</s>` stand in HTML; a merge that ends in one makes text give its id."""
    document = json.loads(backend.to_str())
    document["model"]["merges"] += [["<", "s"], ["<s", ">"]]
    document["model"]["vocab"]["<s"] = len(document["model"]["vocab"])
    forged = Tokenizer.from_str(json.dumps(document))
    forged.encode_special_tokens = True
    assert 0 in forged.encode("<s>", add_special_tokens=False).ids
    with pytest.raises(HainaError, match="a merge of the tokenizer gives <s>"):
        write_folder(tmp_path, forged)
