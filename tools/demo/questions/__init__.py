"""Plain-English questions with one exact answer each, made from a seed.

`tasks` draws questions, `talk` draws small talk, `conversation` puts them into chats, and `split`
decides which operands training never sees. Everything is a function of a `random.Random`, so a seed
names a data set.
"""
