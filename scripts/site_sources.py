"""Hook of mkdocs: what pages link to outside docs/ becomes a page of the site, as `source/PATH`.

So a link into the code leads somewhere on a site that needs no network. A folder is the list of its files,
each a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")
LANGUAGES = {".py": "python", ".toml": "toml", ".md": "markdown", ".jsonl": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the sources that pages link to."""
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            if (source := _outside(page.src_uri, link)) is not None:
                for path in _with_content(source):
                    if files.get_file_from_path(_page_of(path)) is None:
                        files.append(File.generated(config, _page_of(path), content=_content(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to sources into links to their pages."""

    def there(match: re.Match[str]) -> str:
        source = _outside(page.file.src_uri, match[1])
        return (
            match[1]
            if source is None
            else relpath(_page_of(source), str(PurePosixPath(page.file.src_uri).parent))
        )

    return LINK.sub(there, markdown)


def _outside(page: str, link: str) -> PurePosixPath | None:
    """Where a link of a page leads, from the repository's root; None if it stays in docs/."""
    path = PurePosixPath(normpath(PurePosixPath("docs", page).parent / link))
    return None if path.parts[0] == "docs" else path


def _with_content(source: PurePosixPath) -> Iterator[PurePosixPath]:
    yield source
    if (REPOSITORY / source).is_dir():
        yield from (source / path.name for path in _files(source) if _is_text(path))


def _files(folder: PurePosixPath) -> list[Path]:
    return sorted(path for path in (REPOSITORY / folder).iterdir() if path.is_file())


def _is_text(path: Path) -> bool:
    return b"\0" not in path.read_bytes()[:4096]


def _page_of(source: PurePosixPath) -> str:
    return f"source/{source}{'/index' if (REPOSITORY / source).is_dir() else ''}.md"


def _content(source: PurePosixPath) -> str:
    path, head = REPOSITORY / source, f"---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n"
    if path.is_dir():
        entries = (
            f"[`{entry.name}`]({entry.name}.md)" if _is_text(entry) else entry.name
            for entry in _files(source)
        )
        return head + "".join(f"- {entry}\n" for entry in entries)
    return f"{head}``````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8')}``````\n"
