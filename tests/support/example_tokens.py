"""A tokenizer whose tokens can be read off the text, for tests of examples: no package is needed."""

from __future__ import annotations

import re

END, BEGIN = 1, 2
_MARKS = {"<end>": END, "<begin>": BEGIN, "<user>": 3, "<assistant>": 4, "<system>": 5}
_PIECE = re.compile("|".join(map(re.escape, _MARKS)) + r"|\n+|.", re.S)


class LetterTokenizer:
    """A token a character, but several line ends in a row are one, and so are marks such as <end>."""

    vocab_size = 400

    def __init__(self, template=True, eos=END):
        self.eos = eos
        if not template:
            self.apply_chat_template = None

    def encode(self, text):
        return [self._id(piece) for piece in _PIECE.findall(text)]

    @staticmethod
    def _id(piece):
        if piece in _MARKS:
            return _MARKS[piece]
        return 300 + len(piece) if piece[0] == "\n" and len(piece) > 1 else 6 + ord(piece)

    def decode(self, ids):
        names = {number: mark for mark, number in _MARKS.items()}
        return "".join(names.get(i) or ("\n" * (i - 300) if i > 300 else chr(i - 6)) for i in map(int, ids))

    def apply_chat_template(self, messages, add_generation_prompt=False):
        """As ChatML; a message of the role "bad" is refused."""
        text = ""
        for message in messages:
            if message["role"] == "bad":
                raise ValueError("roles are user, assistant and system")
            text += f"<{message['role']}>\n{message['content']}<end>\n"
        return text + ("<assistant>\n" if add_generation_prompt else "")

    def to_dict(self):
        return {"kind": "letters"}
