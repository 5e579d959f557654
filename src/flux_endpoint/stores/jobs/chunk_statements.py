"""The statements about what a job sends before its end; see `statements.py` for the rules."""

from typing import Any, Final

from sqlalchemy import BigInteger, BindParameter, bindparam, delete, exists, insert, select, text, update

from flux_endpoint.stores.sql.schema import chunk_readers, chunks

_unread = (chunks.c.job_id == bindparam("job"), chunks.c.seq > bindparam("after", type_=BigInteger))
_reader = (chunk_readers.c.job_id == bindparam("job"), chunk_readers.c.key_id == bindparam("key"))
_of_jobs: BindParameter[Any] = bindparam("job_ids", expanding=True)

APPEND: Final = insert(chunks).inline()
IS_UNREAD: Final = select(exists().where(*_unread))
READ: Final = select(chunks.c.seq, chunks.c.output).where(*_unread).order_by(chunks.c.seq)

POSITION: Final = select(chunk_readers.c.seq).where(*_reader)
# Two readers with one key take turns from here to the end of the transaction: each chunk goes to one of them.
ADD_READER: Final = text(
    "INSERT INTO chunk_readers (job_id, key_id, seq) VALUES (:job, :key, 0) ON CONFLICT (job_id, key_id) DO NOTHING"
)
LOCK_POSITION: Final = POSITION.with_for_update()
MOVE: Final = update(chunk_readers).where(*_reader).values(seq=bindparam("last", type_=BigInteger))

FORGET: Final = delete(chunks).where(chunks.c.job_id.in_(_of_jobs))
FORGET_READERS: Final = delete(chunk_readers).where(chunk_readers.c.job_id.in_(_of_jobs))
