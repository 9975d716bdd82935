"""What a file is by its first bytes, whatever its name says: an archive, a picture, a pointer, a page."""

from __future__ import annotations

import re

HEAD = 512  # bytes that are enough here

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"PK\x03\x04", "a ZIP archive (also .npz, .pt, .docx, .xlsx, .epub)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"%PDF-", "a PDF"),
    (b"\x93NUMPY", "a numpy array; call it .npy"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow table"),
    (b"FEA1", "a Feather table"),
    (b"Obj\x01", "an Avro table"),
    (b"GGUF", "a GGUF model"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"RIFF", "a RIFF file (sound, video or WebP)"),
    (b"OggS", "an Ogg file (sound or video)"),
    (b"ID3", "MP3 sound"),
    (b"fLaC", "FLAC sound"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90\x00", "a program (Windows)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Java or Mach-O)"),
    (b"\x00asm", "a program (WebAssembly)"),
)
# Longest first: the mark of UTF-32 in little-endian order begins as that of UTF-16 does.
MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]([\x95cX(}\]q\x8a]|.\x95)", re.S)
_PAGE = re.compile(
    rb"\s*(?:<\?xml[^>]{0,99}\?>\s*)?(?:<!doctype\s+html|<html[\s>]|<Error>\s*<Code>)", re.I
)  # last: of a store
_ID_SIGNATURE = 4  # bytes, two ids of 16 bits: fewer may well begin a file of ids
_ID_TEXT = 256  # bytes that are all printable: ids are not
_LFS = (b"version https://git-lfs.github.com/spec/v", b"version https://hawser.github.com/spec/v")


def binary_kind(head: bytes) -> str | None:
    """What a file that cannot be text is, to follow "this is"; None for what may be one."""
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _PICKLE.match(head):
        return "a Python pickle (also an old .pt)"
    if is_safetensors(head):
        return "a safetensors file"
    if head[4:8] == b"ftyp":
        return "an MP4 file (video, sound or HEIC)"
    return None


def encoding_of(head: bytes) -> str | None:
    """UTF-16 or UTF-32, where a byte order mark says so."""
    return next((name for mark, name in MARKS if head.startswith(mark) and len(head) > len(mark)), None)


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors do, whole or cut."""
    return len(head) > 10 and head[8:10] == b'{"' and 0 < int.from_bytes(head[:8], "little") < 1 << 32


def is_pointer(head: bytes) -> bool:
    """Whether this is what git-lfs puts in place of a file that was not fetched."""
    return head.startswith(_LFS)


def is_page(head: bytes) -> bool:
    """Whether this is an HTML page, such as a server sends in place of a file."""
    return bool(_PAGE.match(head.removeprefix(b"\xef\xbb\xbf")))


def kind_of(head: bytes) -> str | None:
    """What a file is that was taken for JSON and is none, to follow "this is"; None for plain text."""
    if is_pointer(head):
        return "a git-lfs pointer, which stands for a file that was not fetched: run git lfs pull"
    if is_page(head):
        return "an HTML page, such as a server sends in place of a file: download the file itself"
    if encoding := encoding_of(head):
        return f"text in {encoding}: save it as UTF-8"
    return binary_kind(head)


def ids_kind_of(head: bytes) -> str | None:
    """What a file is that was taken for token ids and holds none; a head of any bytes may be ids by chance, so that
    only what is long enough is told."""
    if is_pointer(head) or is_page(head) or is_safetensors(head):
        return kind_of(head)
    sure = head[:3] == b"\x1f\x8b\x08" or any(
        head.startswith(signature) for signature, _ in SIGNATURES if len(signature) >= _ID_SIGNATURE
    )
    if sure:
        return binary_kind(head)
    text = head.removeprefix(b"\xef\xbb\xbf")[:HEAD]
    if len(text) >= _ID_TEXT and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in text):
        return f"a text that begins with {text[:40].decode('ascii')!r}"
    return None


def weights_kind_of(head: bytes) -> str | None:
    """What a file is that was taken for weights and holds none: here text, zeros and nothing at all are wrong too."""
    if (kind := kind_of(head)) and not is_safetensors(head):
        return kind
    if not head:
        return "an empty file"
    if not any(head):
        return "a file of zeros: its download was not finished"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:64]):
        return f"a text that begins with {head[:40].decode('ascii')!r}"
    return None
