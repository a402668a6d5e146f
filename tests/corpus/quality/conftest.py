"""Good text made for these tests, in Chinese and English."""

from __future__ import annotations

import random

import pytest

ZH = (
    ("春天", "夏天", "秋天", "冬天", "清晨", "傍晚", "去年", "今年"),
    ("老师", "工程师", "医生", "农民", "学生", "作家", "科学家", "管理员"),
    ("在图书馆里", "在实验室", "在村子旁边", "和朋友们一起", "按照计划", "经过讨论以后"),
    ("认真地阅读", "仔细地检查", "慢慢地学习", "完整地记录", "重新整理", "反复比较"),
    ("古代的历史", "天气的变化", "河流的水位", "软件的说明", "城市的地图", "新的研究方法"),
    (
        "，因此大家都很满意。",
        "，但是问题还没有解决。",
        "，并且写成了一份报告。",
        "。",
        "，这是很重要的工作。",
    ),
)
EN = (
    (
        "In spring",
        "In summer",
        "Last year",
        "Early in the morning",
        "After a long discussion",
        "In the evening",
    ),
    ("the teacher", "an engineer", "the doctor", "a student", "the writer", "one of the scientists"),
    ("carefully", "slowly", "often", "with some friends", "according to the plan", "for the first time"),
    ("reads about", "checks", "learns", "records", "compares", "describes"),
    ("the history of the town", "changes in the weather", "the level of the river", "a map of the city"),
    (", so that everyone is content.", ", but the problem is not solved.", " and writes a report.", "."),
)


def written(language: str, seed: int, count: int = 6) -> str:
    """`count` sentences in two paragraphs."""
    rng = random.Random(seed)
    joint = "" if language == "zh" else " "
    sentences = []
    for _ in range(count):
        *parts, tail = (rng.choice(choices) for choices in (ZH if language == "zh" else EN))
        sentences.append(joint.join(parts) + tail)
    half = count // 2
    return joint.join(sentences[:half]) + "\n" + joint.join(sentences[half:])


@pytest.fixture(scope="session")
def good_texts() -> dict[str, list[str]]:
    """240 texts of each language."""
    return {language: [written(language, seed) for seed in range(240)] for language in ("zh", "en")}
