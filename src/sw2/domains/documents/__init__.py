"""Documents: what stands in a folder of somebody's files, found by its words.

What is asked: nothing that is learned yet, so the domain has no task; `index` is a Session, which other parts open.

Reading order: `blocks` (what a reader gives), `readers` (from a file to blocks, and what is refused), `markup`, `word`,
`mail` and `pdf` (the formats), `chunks` (from blocks to passages), `query` (from a question to terms), `owners` (who
may read what), `database` (the tables on disk), `refresh` (keeping them up to date), `vectors` (of passages, by a
program that can `Embed`), `fusion` (two rankings in one), `index` (the whole), `session` (what others open). What was
measured, and what this does not do: README.md.
"""

from sw2.core.domain import DocumentsEntry, Domain

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="documents",
    summary="Folders of documents, searched.",
    extra="documents",
    documents={
        "folder": DocumentsEntry(
            target="sw2.domains.documents.session:open_documents",
            summary="An index beside a folder of files, by words and meaning.",
            embedder="all-minilm-l6-v2",
        )
    },
)
