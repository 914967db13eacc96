"""Japanese: no inflection for case or number, counters, places after the noun, the verb at the end, no spaces."""

from collections.abc import Sequence
from typing import ClassVar

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.languages import LANGUAGES

__all__ = ["Japanese"]

_NOUNS = {
    "circle": "円",
    "square": "正方形",
    "triangle": "三角形",
    "star": "星",
    "heart": "ハート",
    "cross": "十字",
    "diamond": "ひし形",
    "arrow": "矢印",
}
_SIZES = {"small": "小さな", "medium": "中くらいの", "large": "大きな"}
_COLOURS = {
    "red": "赤い",
    "blue": "青い",
    "green": "緑色の",
    "yellow": "黄色い",
    "orange": "オレンジ色の",
    "purple": "紫色の",
    "black": "黒い",
    "white": "白い",
    "pink": "ピンク色の",
    "brown": "茶色い",
}


class Japanese(Grammar):
    code = "ja"
    prefix = LANGUAGES["ja"].prefix
    numbers: ClassVar = {2: "二つ", 3: "三つ", 4: "四つ"}
    relations: ClassVar = {"left of": "の左側", "right of": "の右側", "above": "の上", "below": "の下"}
    zones: ClassVar = {
        "top left": "画面左上",
        "top": "画面上部",
        "top right": "画面右上",
        "left": "画面左側",
        "centre": "画面中央",
        "right": "画面右側",
        "bottom left": "画面左下",
        "bottom": "画面下部",
        "bottom right": "画面右下",
    }
    word_forms: ClassVar = {
        "size": {size: [form] for size, form in _SIZES.items()},
        "colour": {colour: [form] for colour, form in _COLOURS.items()},
        "shape": {shape: [form] for shape, form in _NOUNS.items()},
    }

    def name_new(self, group: Group) -> str:
        counted = f"{self.numbers[group.number]}の" if group.number > 1 else ""
        return f"{counted}{_SIZES[group.size]}{self.name_known(group)}"

    def name_known(self, group: Group) -> str:
        return _COLOURS[group.colour] + _NOUNS[group.shape]

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        return f"{self.name_known(group) if known else self.name_new(group)}{self.relations[relation]}"

    def short(self, scene: Scene) -> str:
        shown = f"{self.prefix}{self.name_new(scene.groups[0])}"
        if not scene.relations:
            return f"{shown}があります。"
        return f"{shown}があり、{self._say_relations(scene, known=False)}に位置しています。"

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        names = [self.name_new(group) for group in scene.groups]
        shown = "と".join(names) if len(names) == 2 else self.join_list(names)
        first, *others = [
            f"{self.name_known(group)}は{self.zones[zone]}" for group, zone in zip(scene.groups, zones, strict=True)
        ]
        if not others:
            return f"{self.prefix}{shown}があります。{first}にあります。"
        related = f"{first}にあり、{self._say_relations(scene, known=True)}に位置しています"
        return f"{self.prefix}{shown}があります。{related}。{self.join_list(others)}にあります。"

    def join_list(self, items: Sequence[str]) -> str:
        return "、".join(items)
