"""SQLAlchemy's reflection, through PyHive's dialect."""

import sqlalchemy as sa

from sections import HOST, PORT, section

engine = sa.create_engine("hive://ann@%s:%d/compat" % (HOST, PORT), connect_args={"configuration": {"spark.sql.shuffle.partitions": "6"}})


def connect():
    with engine.connect() as c:
        print(c.execute(sa.text("SELECT current_database(), :x"), {"x": "it's"}).fetchall())
        print(c.execute(sa.text("SET spark.sql.shuffle.partitions")).fetchall())


def reflection():
    inspector = sa.inspect(engine)
    print("compat" in inspector.get_schema_names(), inspector.has_table("seen"), inspector.has_table("seen", schema="compat"))
    for c in inspector.get_columns("seen", schema="compat"):
        print(c["name"], c["type"]() if isinstance(c["type"], type) else c["type"])
    print([c["name"] for c in inspector.get_columns("looked")])
    seen = sa.Table("seen", sa.MetaData(), autoload_with=engine)
    with engine.connect() as c:
        print(c.execute(sa.select(seen.c.id, seen.c.name).where(seen.c.id == 1).order_by(seen.c.name).limit(5)).fetchall())


section("connect", connect)
section("metadata", reflection)
