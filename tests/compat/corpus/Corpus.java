import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.sql.*;
import java.util.*;

/**
 * Runs files of statements over one connection and prints one JSON object per statement, with all that a program can see
 * of its result: java -cp DRIVER Corpus.java URL USER FILE...
 *
 * A statement ends with a semicolon at the end of a line; a line that begins with -- is a comment. One that begins with @
 * is a call of DatabaseMetaData with its arguments, whose rows have no order.
 */
public class Corpus {
  static final PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8);

  public static void main(String[] args) throws Exception {
    try (Connection c = DriverManager.getConnection(args[0], args[1], "x")) {
      for (String file : Arrays.asList(args).subList(2, args.length)) {
        StringBuilder sql = new StringBuilder();
        int number = 0, first = 0;
        for (String line : Files.readAllLines(Path.of(file))) {
          number++;
          if (line.startsWith("--") || sql.length() == 0 && line.isBlank()) continue;
          if (sql.length() == 0) first = number;
          sql.append(sql.length() == 0 ? "" : "\n").append(line);
          if (!line.endsWith(";")) continue;
          run(c, Path.of(file).getFileName() + ":" + first, sql.substring(0, sql.length() - 1));
          sql.setLength(0);
        }
        if (sql.length() > 0) throw new IllegalArgumentException(file + ":" + first + ": no semicolon ends the statement");
      }
    }
    out.flush();
  }

  static void run(Connection c, String at, String sql) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("at", at);
    line.put("sql", sql);
    long began = System.nanoTime();
    if (sql.startsWith("@")) {
      try (ResultSet r = call(c.getMetaData(), sql.substring(1).split(" "))) {
        line.put("columns", columns(r.getMetaData()));
        List<Object> rows = rows(r, r.getMetaData().getColumnCount());
        rows.sort(Comparator.comparing(Object::toString));
        line.put("rows", rows);
      } catch (SQLException e) {
        line.put("error", Map.of("state", String.valueOf(e.getSQLState()), "code", e.getErrorCode(), "message", String.valueOf(e.getMessage())));
      } catch (Exception e) {
        line.put("thrown", e.toString());
      }
    } else try (Statement s = c.createStatement()) {
      if (s.execute(sql)) try (ResultSet r = s.getResultSet()) {
        line.put("columns", columns(r.getMetaData()));
        line.put("rows", rows(r, r.getMetaData().getColumnCount()));
      }
    } catch (SQLException e) {
      line.put("error", Map.of("state", String.valueOf(e.getSQLState()), "code", e.getErrorCode(), "message", String.valueOf(e.getMessage())));
    } catch (Exception e) {
      line.put("thrown", e.toString());
    }
    line.put("ms", (System.nanoTime() - began) / 1000000);
    StringBuilder b = new StringBuilder();
    json(b, line);
    out.println(b);
  }

  static ResultSet call(DatabaseMetaData m, String[] words) throws SQLException {
    String[] a = new String[5];
    for (int i = 1; i < words.length; i++) a[i] = words[i].equals("NULL") ? null : words[i];
    switch (words[0]) {
      case "catalogs": return m.getCatalogs();
      case "schemas": return m.getSchemas(null, a[1]);
      case "tables": return m.getTables(null, a[1], a[2], a[3] == null ? null : a[3].split(","));
      case "columns": return m.getColumns(null, a[1], a[2], a[3]);
      case "functions": return m.getFunctions(null, a[1], a[2]);
      case "types": return m.getTypeInfo();
      case "tabletypes": return m.getTableTypes();
      default: throw new IllegalArgumentException(words[0]);
    }
  }

  interface Get { Object get() throws Exception; }

  /** What a call of the driver gives: its value, or what it throws. */
  static Object seen(Get g) {
    try {
      return g.get();
    } catch (Exception e) {
      return "throws " + e;
    }
  }

  static List<Object> columns(ResultSetMetaData m) throws SQLException {
    List<Object> all = new ArrayList<>();
    for (int n = 1; n <= m.getColumnCount(); n++) {
      int i = n;
      Map<String, Object> col = new LinkedHashMap<>();
      col.put("label", seen(() -> m.getColumnLabel(i)));
      col.put("name", seen(() -> m.getColumnName(i)));
      col.put("type", seen(() -> m.getColumnTypeName(i)));
      col.put("number", seen(() -> m.getColumnType(i)));
      col.put("precision", seen(() -> m.getPrecision(i)));
      col.put("scale", seen(() -> m.getScale(i)));
      col.put("size", seen(() -> m.getColumnDisplaySize(i)));
      col.put("class", seen(() -> m.getColumnClassName(i)));
      col.put("nullable", seen(() -> m.isNullable(i)));
      col.put("cased", seen(() -> m.isCaseSensitive(i)));
      all.add(col);
    }
    return all;
  }

  static List<Object> rows(ResultSet r, int columns) throws Exception {
    Field raw = Class.forName("org.apache.hive.jdbc.HiveBaseResultSet").getDeclaredField("row");
    raw.setAccessible(true);
    List<Object> all = new ArrayList<>();
    while (r.next()) {
      Object[] sent = (Object[]) raw.get(r);
      List<Object> row = new ArrayList<>();
      for (int n = 1; n <= columns; n++) {
        int i = n;
        Map<String, Object> cell = new LinkedHashMap<>();
        cell.put("sent", sent == null || sent.length < i ? "no such column" : text(sent[i - 1]));
        cell.put("object", seen(() -> text(r.getObject(i))));
        cell.put("string", seen(() -> r.getString(i)));
        cell.put("null", seen(() -> r.wasNull()));
        row.add(cell);
      }
      all.add(row);
    }
    return all;
  }

  /** A value with its class, since 1 and "1" read the same. */
  static String text(Object v) {
    if (v == null) return null;
    if (!(v instanceof byte[])) return v.getClass().getSimpleName() + " " + v;
    StringBuilder b = new StringBuilder("bytes ");
    for (byte x : (byte[]) v) b.append(String.format("%02x", x));
    return b.toString();
  }

  static void json(StringBuilder b, Object v) {
    if (v == null || v instanceof Number || v instanceof Boolean) {
      b.append(v);
    } else if (v instanceof Map) {
      String sep = "{";
      for (Map.Entry<?, ?> e : new TreeMap<Object, Object>((Map<?, ?>) v).entrySet()) {
        b.append(sep);
        json(b, e.getKey());
        b.append(':');
        json(b, e.getValue());
        sep = ",";
      }
      b.append(sep.equals("{") ? "{}" : "}");
    } else if (v instanceof List) {
      String sep = "[";
      for (Object e : (List<?>) v) {
        b.append(sep);
        json(b, e);
        sep = ",";
      }
      b.append(sep.equals("[") ? "[]" : "]");
    } else {
      b.append('"');
      for (char c : v.toString().toCharArray()) {
        // All but plain ASCII is escaped, unpaired surrogates too: nothing is lost on the way.
        if (c >= ' ' && c < 127 && c != '"' && c != '\\') b.append(c);
        else b.append(String.format("\\u%04x", (int) c));
      }
      b.append('"');
    }
  }
}
