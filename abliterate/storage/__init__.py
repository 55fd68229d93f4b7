"""Files written whole or not at all: staging, atomic writes, the append-only record, the cache, the names of all files."""
