"""Simplified Chinese: no inflection, but measure words, places said after the noun and no spaces."""

from collections.abc import Sequence

from polyglance.data.world.grammars.grammar import Forms, Grammar
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
_NUMBERS = {1: "一", 2: "两", 3: "三", 4: "四"}
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
_RELATIONS = {"left of": "左边", "right of": "右边", "above": "上方", "below": "下方"}
_ZONES = {
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


class Chinese(Grammar):
    code = "zh"
    prefix = LANGUAGES["zh"].prefix

    def shown(self, group: Group) -> str:
        noun, size, colour = _NOUNS[group.shape], _SIZES[group.size], _COLOURS[group.colour]
        counted = _NUMBERS[group.number] + _MEASURE_WORDS.get(group.shape, _MEASURE_WORD)
        if group.size == "medium":
            return f"{counted}{size}的{colour}{noun}"
        return f"{counted}{colour}{size}{noun}"

    def known(self, group: Group) -> str:
        return _COLOURS[group.colour] + _NOUNS[group.shape]

    def beside(self, relation: str, group: Group, *, known: bool) -> str:
        return f"{self.known(group) if known else self.shown(group)}的{_RELATIONS[relation]}"

    def located(self, group: Group, zone: str) -> str:  # noqa: ARG002 (verbs do not agree)
        return f"位于{_ZONES[zone]}"

    def short(self, scene: Scene) -> str:
        sentence = self.prefix + self.shown(scene.groups[0])
        if scene.relations:
            sentence += f"，位于{self._places(scene, known=False)}"
        return f"{sentence}。"

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        *most, last = [self.shown(group) for group in scene.groups]
        first_sentence = self.prefix + (f"{'、'.join(most)}和{last}" if most else last)
        placed = [
            self.known(group) + self.located(group, zone) for group, zone in zip(scene.groups, zones, strict=True)
        ]
        if not scene.relations:
            return f"{first_sentence}。{placed[0]}。"
        return f"{first_sentence}。{placed[0]}，在{self._places(scene, known=True)}。{'，'.join(placed[1:])}。"

    def listed(self, parts: Sequence[str]) -> str:
        return "、".join(parts)

    def forms(self) -> Forms:
        return {
            "number": {str(number): [form] for number, form in _NUMBERS.items() if number > 1},
            "size": {size: [form] for size, form in _SIZES.items()},
            "colour": {colour: [form] for colour, form in _COLOURS.items()},
            "shape": {shape: [form] for shape, form in _NOUNS.items()},
            "relation": {relation: [form] for relation, form in _RELATIONS.items()},
            "zone": {zone: [form] for zone, form in _ZONES.items()},
        }
