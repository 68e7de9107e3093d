"""`filter_query`: MLMD's conditions in SQL's syntax, compiled to statements that hold none of their text.

A filter is read to words (`lexer`), these to a tree (`grammar`), names are given a meaning (`names`), and
the tree becomes a condition of SQLAlchemy's with bound parameters (`compiler`). Whatever is not known is
refused: there is no text of a user's that could get through to the database.
"""
