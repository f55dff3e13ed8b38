import java.sql.*;

/** Makes a Derby database with many small tables: java -cp JARS Fill.java DIRECTORY COUNT */
public class Fill {
  public static void main(String[] args) throws Exception {
    try (Connection c = DriverManager.getConnection("jdbc:derby:" + args[0] + ";create=true"); Statement s = c.createStatement()) {
      c.setAutoCommit(false);
      for (int i = 0; i < Integer.parseInt(args[1]); i++) {
        s.execute("CREATE TABLE T" + i + " (ID INT NOT NULL, WORDS VARCHAR(100), PRICE DOUBLE)");
        if (i % 1000 == 999) c.commit();
      }
      c.commit();
    }
    try { DriverManager.getConnection("jdbc:derby:;shutdown=true"); } catch (SQLException e) { /* that is how Derby says yes */ }
  }
}
