"""SQL: tables, migrations, the one writer, reads, full text. The only place with SQL text."""
