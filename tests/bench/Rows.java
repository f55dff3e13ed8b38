import java.sql.*;
import java.util.*;

/**
 * Reads a result again and again from several servers in turn, as a program over JDBC does, and prints a line for each:
 * java -cp DRIVER Rows.java ROUNDS PAGE SQL NAME=URL ...   gives   NAME SECONDS ROWS CHECKSUM
 */
public class Rows {
  public static void main(String[] args) throws Exception {
    int rounds = Integer.parseInt(args[0]), page = Integer.parseInt(args[1]);
    Map<String, Statement> servers = new LinkedHashMap<>();
    for (String s : Arrays.asList(args).subList(3, args.length)) {
      int eq = s.indexOf('=');
      servers.put(s.substring(0, eq), DriverManager.getConnection(s.substring(eq + 1), "bench", "x").createStatement());
    }
    for (int round = 0; round < rounds; round++) {
      for (Map.Entry<String, Statement> e : servers.entrySet()) {
        System.out.println("begin " + e.getKey());
        System.in.read(); // the reader of this line looks at the servers' processor time first
        long began = System.nanoTime();
        e.getValue().setFetchSize(page);
        long rows = 0, sum = 0;
        try (ResultSet r = e.getValue().executeQuery(args[2])) {
          int columns = r.getMetaData().getColumnCount();
          int[] types = new int[columns];
          for (int i = 0; i < columns; i++) types[i] = r.getMetaData().getColumnType(i + 1);
          while (r.next()) {
            rows++;
            for (int i = 0; i < columns; i++) {
              switch (types[i]) {
                case Types.BIGINT: sum += r.getLong(i + 1); break;
                case Types.DOUBLE: sum += (long) r.getDouble(i + 1); break;
                default: sum += r.getString(i + 1).length();
              }
            }
          }
        }
        System.out.println("end " + e.getKey() + " " + (System.nanoTime() - began) / 1e9 + " " + rows + " " + sum);
      }
    }
  }
}
