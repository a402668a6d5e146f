"""A mixed set for the tests: four subjects in Chinese and in English, told with words of their own."""

from __future__ import annotations

import random

SUBJECTS = {
    "cooking": (
        ["豆腐", "酱油", "锅里的油", "面条", "青菜", "米饭", "鸡汤", "葱和姜"],
        ["切成小块", "用小火炒香", "放进锅里煮", "加盐和糖调味", "蒸十分钟", "拌匀以后装盘"],
        [
            "the onions",
            "the soup",
            "the noodles",
            "the rice",
            "the chicken",
            "the sauce",
            "the vegetables",
            "the dough",
        ],
        [
            "are fried in oil",
            "simmer over low heat",
            "need salt and pepper",
            "bake in the oven",
            "are served hot",
        ],
    ),
    "football": (
        ["前锋", "守门员", "主教练", "客队", "球迷", "裁判", "后卫", "国家足球队"],
        [
            "在下半场射门得分",
            "赢得了联赛冠军",
            "输掉了决赛",
            "因为受伤离开球场",
            "罚进了点球",
            "签下新的合同",
        ],
        [
            "the striker",
            "the goalkeeper",
            "the coach",
            "the home team",
            "the referee",
            "the defender",
            "the club",
            "the fans",
        ],
        [
            "scored in the second half",
            "won the league title",
            "lost the cup final",
            "left the pitch injured",
            "took the penalty",
        ],
    ),
    "computers": (
        ["程序员", "编译器", "操作系统", "数据库", "服务器", "这个函数", "源代码", "软件包"],
        [
            "返回一个整数",
            "占用太多内存",
            "需要重新编译",
            "在终端里运行命令",
            "读取配置文件",
            "修复了一个错误",
        ],
        [
            "the compiler",
            "the database",
            "the server",
            "the function",
            "the kernel",
            "the software package",
            "the script",
            "the programmer",
        ],
        [
            "returns an integer",
            "uses too much memory",
            "reads the configuration file",
            "runs in a terminal",
            "fixes a bug in the code",
        ],
    ),
    "law": (
        ["人民法院", "当事人", "被告人", "合同双方", "行政机关", "原告的律师", "劳动者", "检察院"],
        [
            "应当依法承担责任",
            "有权提起诉讼",
            "不得违反本法规定",
            "应当赔偿损失",
            "可以申请仲裁",
            "被判处有期徒刑",
        ],
        [
            "the court",
            "the plaintiff",
            "the defendant",
            "the parties to the contract",
            "the attorney",
            "the judge",
            "the tenant",
            "the statute",
        ],
        [
            "shall be liable for damages",
            "may file an appeal",
            "must comply with the law",
            "dismissed the lawsuit",
            "is bound by the contract",
        ],
    ),
}


def documents(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` documents a subject and language: `id`, `text`, `subject`, `lang`."""
    rng = random.Random(seed)
    rows = []
    for subject, (things, deeds, en_things, en_deeds) in SUBJECTS.items():
        for number in range(count):
            zh = "".join(f"{rng.choice(things)}{rng.choice(deeds)}。" for _ in range(rng.randrange(6, 14)))
            en = " ".join(
                f"{rng.choice(en_things).capitalize()} {rng.choice(en_deeds)}."
                for _ in range(rng.randrange(6, 14))
            )
            rows.append({"id": f"zh-{subject}-{number}", "text": zh, "subject": subject, "lang": "zh"})
            rows.append({"id": f"en-{subject}-{number}", "text": en, "subject": subject, "lang": "en"})
    rng.shuffle(rows)
    return rows


PAIRS = [
    ("猫在沙发上睡觉。", "The cat is sleeping on the sofa."),
    ("法院判决被告赔偿损失。", "The court ordered the defendant to pay damages."),
    ("水在一百摄氏度沸腾。", "Water boils at one hundred degrees Celsius."),
    ("这支球队赢得了冠军。", "The team won the championship."),
    ("他昨天买了一本新书。", "He bought a new book yesterday."),
    ("医生建议病人多休息。", "The doctor advised the patient to rest more."),
    ("股票价格今天下跌。", "Stock prices fell today."),
    ("火车晚点了两个小时。", "The train was two hours late."),
]
