"""PaliGemma: captions in the languages of COCO-35L."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration

from polyglance.coverage import EvaluationTask
from polyglance.engines.checkpoints import WritingCheckpoint
from polyglance.engines.protocol import Answers, Picture, TaskLanguages

__all__ = ["PaliGemma", "remove_spaces_in_chinese"]

_HAN = r"[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
_SPACES = re.compile(rf"(?<={_HAN})\s+(?={_HAN})")


class PaliGemma(WritingCheckpoint):
    """Checkpoints tuned for captions, such as paligemma-3b-ft-coco35l-448: greedy, 100 tokens (code section 4.3)."""

    model_class = PaliGemmaForConditionalGeneration
    num_beams, max_new_tokens = 1, 100
    languages: TaskLanguages = dict.fromkeys(("caption",))

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:  # noqa: ARG002 - captions only
        return f"caption {language}"

    def facts(self, task: EvaluationTask, language: str) -> Mapping[str, Any]:
        output = {"output": "no spaces between Han characters"} if language == "zh" else {}
        return {**super().facts(task, language), **output}

    def write_captions(self, images: Sequence[Picture], language: str) -> Answers:
        texts = super().write_captions(images, language)
        return [remove_spaces_in_chinese(str(text)) for text in texts] if language == "zh" else texts

    @torch.no_grad()
    def answer(self, images: Sequence[Picture], prompts: Sequence[str]) -> Answers:
        inputs = self.process([image.rgb for image in images], [f"<image>{prompt}" for prompt in prompts])
        return self.decode(self.model.generate(**inputs, **self.generation)[:, inputs["input_ids"].shape[1] :])

    def process(self, images: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Any]:
        """Return the model's inputs. The processor also makes labels (only with numpy arrays), which are dropped."""
        arrays = self.processor(images=list(images), text=list(texts), return_tensors="np", padding=True)
        return self.to_device({name: torch.from_numpy(arrays[name]) for name in arrays if name != "labels"})


def remove_spaces_in_chinese(text: str) -> str:
    """Remove spaces between Han characters: the model was trained on segmented texts, references are not segmented."""
    return _SPACES.sub("", text)
