import extra.Extra;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.sql.SparkSession;

/** A batch: it prints its arguments and a file, counts on executors with a class of another jar, and ends as it is told. */
public class Job {
  public static void main(String[] args) throws Exception {
    SparkSession spark = SparkSession.builder().getOrCreate();
    for (String arg : args) System.out.println("arg [" + arg + "]");
    System.out.println("file [" + Files.readString(Path.of("words.txt")).trim() + "]");
    for (String name : List.of("again.txt", "empty.txt"))
      if (Files.exists(Path.of(name))) System.out.println(name + " [" + Files.readString(Path.of(name)).trim() + "]");
    JavaSparkContext context = new JavaSparkContext(spark.sparkContext());
    System.out.println("twice " + context.parallelize(List.of(1, 2, 3, 4), 2).map(Extra::twice).collect());
    System.out.println("user " + spark.sparkContext().sparkUser());
    switch (args[0]) {
      case "fail":
        throw new IllegalStateException("the job gives up");
      case "wait":
        System.out.println("waiting");
        new java.util.concurrent.CountDownLatch(1).await();
        break;
      default:
        for (int i = 0; i < 2000; i++) System.out.println("line " + i);
        System.out.println("the last line");
    }
  }
}
