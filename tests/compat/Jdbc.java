import java.sql.*;
import java.util.*;

/** Runs statements over JDBC and prints what a program sees: java -cp DRIVER Jdbc.java URL USER MODE [SQL ...] */
public class Jdbc {
  public static void main(String[] args) throws Exception {
    try (Connection c = DriverManager.getConnection(args[0], args[1], "x")) {
      switch (args[2]) {
        case "query": for (String sql : Arrays.asList(args).subList(3, args.length)) query(c, sql); break;
        case "cancel": cancel(c, args[3]); break;
        case "timeout": timeout(c, args[3]); break;
        case "metadata": metadata(c); break;
        default: throw new IllegalArgumentException(args[2]);
      }
    }
  }

  static void query(Connection c, String sql) throws SQLException {
    try (Statement s = c.createStatement()) {
      s.setFetchSize(7);
      if (!s.execute(sql)) { System.out.println("no result"); return; }
      try (ResultSet r = s.getResultSet()) {
        ResultSetMetaData m = r.getMetaData();
        StringJoiner head = new StringJoiner("|");
        for (int i = 1; i <= m.getColumnCount(); i++) head.add(m.getColumnLabel(i) + ":" + m.getColumnTypeName(i));
        System.out.println(head);
        while (r.next()) {
          StringJoiner row = new StringJoiner("|");
          for (int i = 1; i <= m.getColumnCount(); i++) {
            Object v = r.getObject(i);
            row.add(v == null ? "NULL" : v instanceof byte[] ? "bytes" + Arrays.toString((byte[]) v) : v.toString());
          }
          System.out.println(row);
        }
      }
    } catch (SQLException e) {
      System.out.println("error " + e.getSQLState() + " " + e.getMessage().split("\n")[0]);
    }
  }

  static void cancel(Connection c, String sql) throws Exception {
    Statement s = c.createStatement();
    Thread canceller = new Thread(() -> {
      try {
        // Once the log tells of a stage, the job runs.
        org.apache.hive.jdbc.HiveStatement h = (org.apache.hive.jdbc.HiveStatement) s;
        for (boolean runs = false; !runs; Thread.sleep(100)) for (String line : h.getQueryLog()) runs |= line.contains("Stage ");
        s.cancel();
      } catch (Exception e) { e.printStackTrace(); }
    });
    canceller.start();
    long began = System.nanoTime();
    try { s.execute(sql); System.out.println("not cancelled"); }
    catch (SQLException e) { System.out.println("error " + e.getSQLState() + " " + e.getMessage().split("\n")[0]); }
    canceller.join();
    System.err.println("took " + (System.nanoTime() - began) / 1e9);
    query(c, "SELECT 2 AS two");
  }

  static void timeout(Connection c, String sql) throws SQLException {
    try (Statement s = c.createStatement()) {
      s.setQueryTimeout(2);
      s.execute(sql);
      System.out.println("no timeout");
    } catch (SQLTimeoutException e) {
      System.out.println("timeout " + e.getMessage().split("\n")[0]);
    }
  }

  static void metadata(Connection c) throws SQLException {
    DatabaseMetaData m = c.getMetaData();
    System.out.println(m.getDatabaseProductName() + " " + m.getDatabaseProductVersion() + " valid=" + c.isValid(5));
    print("schemas", m.getSchemas(), "TABLE_SCHEM");
    print("tables", m.getTables(null, "compat", "%", null), "TABLE_NAME", "TABLE_TYPE");
    print("columns", m.getColumns(null, "compat", "t", "%"), "COLUMN_NAME", "TYPE_NAME", "ORDINAL_POSITION");
    print("types", m.getTableTypes(), "TABLE_TYPE");
    System.out.println("catalog=" + c.getCatalog() + " schema=" + c.getSchema());
  }

  static void print(String what, ResultSet r, String... columns) throws SQLException {
    while (r.next()) {
      StringJoiner row = new StringJoiner("|");
      for (String col : columns) row.add(r.getString(col));
      System.out.println(what + " " + row);
    }
    r.close();
  }
}
