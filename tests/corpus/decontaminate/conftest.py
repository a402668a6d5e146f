"""A small evaluation in Chinese and English, and a tokenizer of texts into what kernels take."""

from __future__ import annotations

import pytest

from haina.corpus.decontaminate import Index, Item, build_index

ITEMS = (
    Item("zh.csv", "0", "question", "下列物质中，能使酸性高锰酸钾溶液褪色但不能使溴水褪色的是____。", ("己烯", "甲苯", "苯酚", "乙醛")),
    Item("zh.csv", "1", "question", "税务行政复议的申请人可以在得知税务机关作出具体行政行为之日起____日内提出行政复议申请。", ("60", "30", "7", "3")),
    Item("zh.csv", "2", "question", "论证的三重功能不包括", ("证成", "推论", "说服", "反驳")),
    Item("zh.csv", "3", "question", "“海内存知己，天涯若比邻”这句诗的作者是哪一位诗人？", ("王勃", "杜甫", "骆宾王", "卢照邻")),
    Item("zh.csv", "4", "question", "下列说法正确的是", ("鸟类的骨骼中空而且轻", "鲸用鳃呼吸并且产卵", "蝙蝠属于鸟类的一种", "蛇有四条退化的腿")),
    Item("en.csv", "0", "question", "What is the embryological origin of the hyoid bone?", ("The first pharyngeal arch", "The first and second pharyngeal arches", "The second pharyngeal arch", "The second and third pharyngeal arches")),
    Item("en.csv", "1", "question", "Which of the following is correct?", ("Mercury is denser than lead", "Iron sinks in liquid mercury", "Tin boils below water", "Zinc is a noble gas")),
    Item("en.csv", "2", "question", "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia sell altogether in April and May?"),
    Item("en.csv", "3", "question", "According to the passage, why did the harbour master refuse to light the beacon?", (), "The harbour master climbed the tower at dusk, as he had done for thirty years, and sat beside the unlit lamp. " * 3),
    Item("en.csv", "4", "question", "A", ("B", "C")),
)  # fmt: skip


@pytest.fixture(scope="session")
def items() -> tuple[Item, ...]:
    """Ten items."""
    return ITEMS


@pytest.fixture(scope="session")
def index() -> Index:
    """Their index."""
    return build_index(ITEMS)
