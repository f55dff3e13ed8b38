import java.io.*;
import java.sql.*;
import java.util.*;

/**
 * Reads a result from one of several servers each time it is told to, as a program over JDBC does.
 * java -cp DRIVER Rows.java PAGE SQL URL ...   Each line of its input is the number of a server, each line of its output
 * SECONDS ROWS CHECKSUM.
 */
public class Rows {
  public static void main(String[] args) throws Exception {
    int page = Integer.parseInt(args[0]);
    List<Statement> servers = new ArrayList<>();
    for (String url : Arrays.asList(args).subList(2, args.length)) {
      servers.add(DriverManager.getConnection(url, "bench", "x").createStatement());
    }
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = in.readLine()) != null; ) {
      Statement s = servers.get(Integer.parseInt(line.trim()));
      long began = System.nanoTime();
      s.setFetchSize(page);
      long rows = 0, sum = 0;
      try (ResultSet r = s.executeQuery(args[1])) {
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
      System.out.println((System.nanoTime() - began) / 1e9 + " " + rows + " " + sum);
      System.out.flush();
    }
    System.exit(0); // connections of the driver's would keep the program running
  }
}
