"""Names and signatures that only the holder of a study's secret can make.

In: the secret of a study, any words. Out: hexadecimal strings that tell nothing about the words.
"""

import hashlib
import hmac

SEPARATOR = "\x1f"  # occurs in no name, so that ("ab", "c") and ("a", "bc") are signed differently


def sign(secret: str, *words: object, length: int = 32) -> str:
    """HMAC-SHA256 of the words, cut to `length` hexadecimal digits."""
    message = SEPARATOR.join(str(word) for word in words)
    return hmac.new(bytes.fromhex(secret), message.encode(), hashlib.sha256).hexdigest()[:length]


def genuine(secret: str, signature: str, *words: object) -> bool:
    """Whether `signature` is ours for these words; takes the same time whatever is wrong with
    it.
    """
    return hmac.compare_digest(sign(secret, *words).encode(), signature.encode(errors="replace"))


def known_answer(trial_id: str, place: int) -> str:
    """What the page holds in place of a known answer: good for checking, not for reading."""
    return hashlib.sha256(f"{trial_id}|{place}".encode()).hexdigest()
