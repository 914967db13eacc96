"""Simplified Chinese: no inflection, but measure words, places after the noun and no spaces."""

from collections.abc import Sequence
from typing import ClassVar

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.languages import LANGUAGES

__all__ = ["Chinese"]

_NOUNS = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "五角星",
    "heart": "爱心",
    "cross": "十字",
    "diamond": "菱形",
    "arrow": "箭头",
}
_MEASURE_WORDS = {"star": "颗", "heart": "颗"}
_MEASURE_WORD = "个"
_SIZES = {"small": "小", "medium": "中等大小", "large": "大"}
_COLOURS = {
    "red": "红色",
    "blue": "蓝色",
    "green": "绿色",
    "yellow": "黄色",
    "orange": "橙色",
    "purple": "紫色",
    "black": "黑色",
    "white": "白色",
    "pink": "粉色",
    "brown": "棕色",
}


class Chinese(Grammar):
    code = "zh"
    prefix = LANGUAGES["zh"].prefix
    numbers: ClassVar = {1: "一", 2: "两", 3: "三", 4: "四"}
    relations: ClassVar = {"left of": "左边", "right of": "右边", "above": "上方", "below": "下方"}
    zones: ClassVar = {
        "top left": "画面左上角",
        "top": "画面顶部",
        "top right": "画面右上角",
        "left": "画面左侧",
        "centre": "画面中央",
        "right": "画面右侧",
        "bottom left": "画面左下角",
        "bottom": "画面底部",
        "bottom right": "画面右下角",
    }
    word_forms: ClassVar = {
        "size": {size: [form] for size, form in _SIZES.items()},
        "colour": {colour: [form] for colour, form in _COLOURS.items()},
        "shape": {shape: [form] for shape, form in _NOUNS.items()},
    }

    def name_new(self, group: Group) -> str:
        noun, size, colour = _NOUNS[group.shape], _SIZES[group.size], _COLOURS[group.colour]
        counted = self.numbers[group.number] + _MEASURE_WORDS.get(group.shape, _MEASURE_WORD)
        if group.size == "medium":
            return f"{counted}{size}的{colour}{noun}"
        return f"{counted}{colour}{size}{noun}"

    def name_known(self, group: Group) -> str:
        return _COLOURS[group.colour] + _NOUNS[group.shape]

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        return f"{self.name_known(group) if known else self.name_new(group)}的{self.relations[relation]}"

    def say_zone(self, group: Group, zone: str) -> str:  # noqa: ARG002 (verbs do not agree)
        return f"位于{self.zones[zone]}"

    def short(self, scene: Scene) -> str:
        sentence = self.prefix + self.name_new(scene.groups[0])
        if scene.relations:
            sentence += f"，位于{self._say_relations(scene, known=False)}"
        return f"{sentence}。"

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        *most, last = [self.name_new(group) for group in scene.groups]
        first_sentence = self.prefix + (f"{'、'.join(most)}和{last}" if most else last)
        clauses = [
            self.name_known(group) + self.say_zone(group, zone) for group, zone in zip(scene.groups, zones, strict=True)
        ]
        if not scene.relations:
            return f"{first_sentence}。{clauses[0]}。"
        return f"{first_sentence}。{clauses[0]}，在{self._say_relations(scene, known=True)}。{'，'.join(clauses[1:])}。"

    def join_list(self, items: Sequence[str]) -> str:
        return "、".join(items)
