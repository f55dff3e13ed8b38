"""A batch: it uses a module, a package and an archive, here and on executors, and ends as it is told."""
import sys

import packed
import util
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print("args", sys.argv[1:])
print("packed", packed.NAME)
print("archive", open("data/inner/note.txt").read())
numbers = spark.sparkContext.parallelize([1, 2, 3], 2)
print("plus", numbers.map(util.plus).collect())
print("on executors", set(numbers.map(lambda n: open("data/inner/note.txt").read()).collect()))
print("user", spark.sql("SELECT current_user()").first()[0])
if sys.argv[1] == "fail":
    raise ValueError("the program gives up")
