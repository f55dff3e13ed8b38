"""Runs a script of SQL: its statements in order, until one fails. Rows go to standard output, columns between tabs."""
import re
import sys
import traceback

TOKEN = re.compile(
    r"""
    (?P<comment> --(?:\\\n|[^\n])* | \s+)
  | (?P<open> /\*)
  | [rR]'[^']*' | [rR]"[^"]*"
  | '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*`
  | (?P<dollar> \$\w*\$)
  | (?P<word> \w+)
  | (?P<end> ;)
  | .
    """,
    re.VERBOSE | re.DOTALL,
)
BOUND = re.compile(r"/\*|\*/")
AFTER_END = re.compile(r"\s+(IF|WHILE|LOOP|REPEAT|FOR)\b", re.IGNORECASE)


def after_comment(text, at):
    """Where the comment ends whose inside begins at a place. Comments stand in comments; an open one takes the rest."""
    depth = 1
    while depth:
        m = BOUND.search(text, at)
        if not m:
            return len(text)
        depth += 1 if m.group() == "/*" else -1
        at = m.end()
    return at


def statements(text):
    """Splits a script at the semicolons that end a statement. Those of strings, names and comments do not, nor do those
    inside of BEGIN ... END."""
    start, at, words, depth = 0, 0, [], 0
    while at < len(text):
        m = TOKEN.match(text, at)
        at = m.end()
        if m.lastgroup == "comment":
            continue
        if m.lastgroup == "open":
            at = after_comment(text, at)
            continue
        if m.lastgroup == "end" and not depth:
            if words:
                yield text[start:m.start()].strip()
            start, words = at, []
            continue
        if m.lastgroup == "dollar":
            closing = text.find(m.group(), at)
            if closing >= 0:
                at = closing + len(m.group())
        word = m.group().upper()
        words.append(word)
        script = words[0] == "BEGIN" or words[1:3] == [":", "BEGIN"]
        if script and word in ("BEGIN", "CASE") and words[-2:-1] != ["END"]:
            depth += 1
        elif script and word == "END" and not AFTER_END.match(text, at):
            depth -= 1
    if words:
        yield text[start:].strip()


def show(frame):
    """Prints rows as Spark writes values as text."""
    if not frame.columns:
        return
    frame = frame.toDF(*("c%d" % i for i in range(len(frame.columns))))
    for row in frame.select([frame[c].cast("string") for c in frame.columns]).collect():
        print("\t".join("NULL" if v is None else v for v in row))


def main(script):
    from pyspark.sql import SparkSession

    sys.stdout.reconfigure(encoding="utf-8")
    with open(script, encoding="utf-8-sig") as f:
        text = f.read()
    spark = SparkSession.builder.getOrCreate()
    for n, statement in enumerate(statements(text), 1):
        try:
            show(spark.sql(statement))
        except Exception as e:  # whatever it is, no later statement runs
            sys.stdout.flush()
            why = "".join(traceback.format_exception_only(type(e), e)).strip()
            sys.exit("Statement %d of %s failed:\n%s\n%s" % (n, script, statement, why))
        sys.stdout.flush()
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
