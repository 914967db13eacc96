"""Answers in the records of chat models: requests of a batch, servers' responses, conversations.

{"custom_id": "42", "response": {"body": {"choices": [{"message": {"role": "assistant", "content": "a dog"}}]}}}
{"id": 42, "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "a dog"}]}
{"id": 42, "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "a dog"}]}
{"key": "42", "response": {"candidates": [{"content": {"parts": [{"text": "a dog"}]}}]}}
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["CONVERSATION_KEYS", "take_answer"]

CONVERSATION_KEYS = ("messages", "conversations", "conversation", "choices", "candidates", "outputs")
"""Keys of records whose value holds the answer of a chat model."""
_INNER = ("body", "response", "result", "message", "choices", "candidates", "outputs", "messages", "content", "parts")
"""Keys that lead to the answer inside a response, from the outside."""
_TEXTS = ("text", "generated_text")
_SPEAKERS = frozenset({"assistant", "gpt", "model", "bot"})
_MOST_LEVELS = 8


def take_answer(value: Any, depth: int = 0) -> Any:
    """Return the text of the answer in a response or conversation, or the texts of several alternatives; a value that
    is none of them as it is."""
    if depth > _MOST_LEVELS:
        return value
    if isinstance(value, dict):
        for key in _TEXTS:
            if isinstance(value.get(key), str):
                return value[key]
        inner = next((value[key] for key in _INNER if value.get(key)), None)
        found = take_answer(inner, depth + 1)
        return found if _is_answer(found) and inner is not None else value
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return value
    if all(_speaker(one) for one in value):
        return _last_answer(value, depth)
    if depth and all(_is_piece(one) for one in value):
        return "".join(one["text"] for one in value)
    found = [take_answer(one, depth + 1) for one in value]
    if not all(isinstance(one, str) for one in found):
        return value
    return found[0] if len(found) == 1 else found


def _is_answer(found: Any) -> bool:
    return isinstance(found, str) or (isinstance(found, list) and all(isinstance(one, str) for one in found))


def _is_piece(one: Any) -> bool:
    """Tell whether an object is a piece of one message: `{"type": "text", "text": ...}`, or a text alone."""
    return isinstance(one.get("text"), str) and (one.get("type") == "text" or len(one) == 1)


def _speaker(message: Any) -> str:
    speaker = message.get("role", message.get("from"))
    return speaker if isinstance(speaker, str) else ""


def _last_answer(messages: Sequence[Any], depth: int) -> Any:
    """Return the text of the last message, if the model has written it."""
    last = messages[-1]
    if _speaker(last) not in _SPEAKERS:
        return messages
    content = last.get("content", last.get("value"))
    found = content if isinstance(content, str) else take_answer(content, depth + 1)
    return found if isinstance(found, str) else messages
