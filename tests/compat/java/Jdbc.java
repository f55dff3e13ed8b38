import java.io.File;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.sql.*;
import java.util.*;
import java.util.concurrent.CountDownLatch;

/**
 * Runs JDBC drivers, each in a class loader of its own as DBeaver does, and prints what a program sees of them, in
 * sections "## DRIVER/CAPABILITY": java Jdbc.java MODE NAME=CLASS=SCHEME=JAR:JAR... One driver does it alone; in the mode
 * "lost" all of them run a statement at the same time, on an engine that the caller then kills.
 */
public class Jdbc {
  static final String HOST = System.getenv("HS2_HOST") + ":" + System.getenv("HS2_PORT");
  static final String HTTP = System.getenv("HS2_HOST") + ":" + System.getenv("HS2_HTTP_PORT");
  static final java.io.PrintStream STDOUT = System.out; // for the sections alone: some drivers bring a logger
  static final PrintStreamPerThread OUT = new PrintStreamPerThread();

  final String name, scheme;
  final Driver driver;
  final ClassLoader loader;

  Jdbc(String spec) throws Exception {
    String[] parts = spec.split("=");
    name = parts[0];
    scheme = parts[2];
    List<URL> jars = new ArrayList<>();
    for (String jar : parts[3].split(":")) jars.add(new File(jar).toURI().toURL());
    loader = new URLClassLoader(jars.toArray(new URL[0]), ClassLoader.getPlatformClassLoader());
    Thread.currentThread().setContextClassLoader(loader);
    driver = (Driver) Class.forName(parts[1], true, loader).getDeclaredConstructor().newInstance();
  }

  interface Step { void run() throws Exception; }

  public static void main(String[] args) throws Exception {
    System.setOut(System.err);
    if (args[0].equals("lost")) lost(args);
    else for (String spec : Arrays.asList(args).subList(1, args.length)) new Jdbc(spec).all(args[0]);
    System.exit(0); // some drivers leave threads
  }

  void all(String mode) {
    section("connect", () -> link(HOST, ""));
    section("HTTP", () -> link(HTTP, ";transportMode=http;httpPath=cliservice"));
    section("TLS", this::tls);
    section("types", () -> query("/default?spark.sql.session.timeZone=UTC", System.getenv("SQL_TYPES")));
    section("pages", this::pages);
    section("errors", this::errors);
    section("cancel", this::cancel);
    section("timeout", this::timeout);
    section("metadata", this::metadata);
  }

  void section(String what, Step step) {
    say("## " + name + "/" + what);
    long began = System.nanoTime();
    try { step.run(); }
    catch (Throwable e) { say("FAILED " + e.toString().split("\n")[0]); e.printStackTrace(); }
    System.err.printf("%s/%s took %.1f s%n", name, what, (System.nanoTime() - began) / 1e9);
  }

  static void say(String line) { OUT.get().add(line); if (OUT.direct()) STDOUT.println(line); }

  Connection connect(String host, String rest, String user) throws SQLException {
    Properties p = new Properties();
    p.put("user", user);
    p.put("password", "x");
    return driver.connect(scheme + host + rest, p);
  }

  Connection connect(String rest) throws SQLException { return connect(HOST, rest, "ann"); }

  void link(String host, String more) throws SQLException {
    try (Connection c = connect(host, "/compat" + more + "?spark.sql.shuffle.partitions=11#who=link", "ann")) {
      print(c, "SELECT current_database() AS db, '${who}' AS who");
      print(c, "SET spark.sql.shuffle.partitions");
      say("valid " + c.isValid(5));
    }
  }

  void tls() throws SQLException {
    String host = System.getenv("HS2_HOST") + ":", store = ";ssl=true;sslTrustStore=" + System.getenv("TLS_STORE") + ";trustStorePassword=changeit";
    String[] hosts = {host + System.getenv("TLS_PORT"), host + System.getenv("TLS_HTTP_PORT")}, rest = {"/default", "/default;transportMode=http;httpPath=cliservice"};
    for (int i = 0; i < 2; i++) {
      try (Connection c = connect(hosts[i], rest[i] + store, "ann")) { print(c, "SELECT 1"); }
      try (Connection c = connect(hosts[i], rest[i] + ";ssl=true", "ann")) { say("trusted without a reason"); }
      catch (SQLException e) { say("refused"); }
    }
  }

  void query(String rest, String sql) throws SQLException {
    try (Connection c = connect(rest)) { print(c, sql); }
  }

  static void print(Connection c, String sql) throws SQLException {
    try (Statement s = c.createStatement()) {
      if (!s.execute(sql)) { say("no result"); return; }
      try (ResultSet r = s.getResultSet()) {
        ResultSetMetaData m = r.getMetaData();
        StringJoiner head = new StringJoiner("|");
        for (int i = 1; i <= m.getColumnCount(); i++) head.add(m.getColumnLabel(i) + ":" + m.getColumnTypeName(i));
        say(head.toString());
        while (r.next()) say(row(r, m.getColumnCount()));
      }
    }
  }

  static String row(ResultSet r, int columns) throws SQLException {
    StringJoiner row = new StringJoiner("|");
    for (int i = 1; i <= columns; i++) {
      Object v = r.getObject(i);
      row.add(v == null ? "NULL" : v instanceof byte[] ? "bytes" + Arrays.toString((byte[]) v) : v.toString());
    }
    return row.toString();
  }

  void pages() throws SQLException {
    try (Connection c = connect("/default"); Statement s = c.createStatement()) {
      s.setFetchSize(100);
      long rows = 0, sum = 0, nulls = 0;
      String last = "";
      try (ResultSet r = s.executeQuery(System.getenv("SQL_PAGES"))) {
        for (; r.next(); rows++) { sum += r.getLong(1); if (r.wasNull()) nulls++; last = r.getString(2); }
      }
      say(rows + " rows, sum " + sum + ", nulls " + nulls + ", " + last);
      s.setMaxRows(7);
      rows = 0;
      try (ResultSet r = s.executeQuery(System.getenv("SQL_PAGES"))) { while (r.next()) rows++; }
      say("at most " + rows);
      try (PreparedStatement p = c.prepareStatement("SELECT ?, ? + 1")) {
        p.setString(1, "it's");
        p.setInt(2, 41);
        try (ResultSet r = p.executeQuery()) { r.next(); say(row(r, 2)); }
      }
    }
  }

  void errors() throws SQLException {
    try (Connection c = connect("/default")) {
      for (String sql : System.getenv("SQL_ERRORS").split(";")) {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
          while (r.next()) { }
          say("no error");
        } catch (SQLException e) { say(failure(e)); }
      }
      print(c, "SELECT 'goes on'");
    }
  }

  static String failure(SQLException e) { return e.getSQLState() + " " + String.valueOf(e.getMessage()).split("\n")[0]; }

  /** The log of a running statement. JDBC has no such thing, the drivers have one each. */
  static List<String> log(Statement s) throws Exception {
    for (String name : new String[] {"getQueryLog", "getExecLog"}) {
      try {
        Method m = s.getClass().getMethod(name);
        @SuppressWarnings("unchecked") List<String> lines = (List<String>) m.invoke(s);
        return lines;
      } catch (NoSuchMethodException e) { } 
    }
    throw new NoSuchMethodException("no log in " + s.getClass());
  }

  void cancel() throws Exception {
    try (Connection c = connect("/default"); Statement s = c.createStatement()) {
      List<String> lines = Collections.synchronizedList(new ArrayList<>());
      Thread other = new Thread(() -> {
        try {
          while (lines.stream().noneMatch(l -> l.contains("Stage "))) { // once the log tells of a stage, the job runs
            try { lines.addAll(log(s)); }
            catch (Exception e) { if (!String.valueOf(e.getCause()).contains("not been executed")) throw e; }
            Thread.sleep(50);
          }
          s.cancel();
        } catch (Exception e) { e.printStackTrace(); }
      });
      other.start();
      long began = System.nanoTime();
      try { s.execute(System.getenv("SQL_ENDLESS")); say("not cancelled"); }
      catch (SQLException e) { say(failure(e)); }
      other.join();
      say("within a minute " + (System.nanoTime() - began < 60e9));
      print(c, "SELECT 2 AS two");
      say("## " + name + "/log");
      for (String l : lines) if (l.contains("Total jobs") || l.contains("Stage ")) say(l.replaceFirst("^[0-9:]* ", ""));
    }
  }

  void timeout() throws SQLException {
    try (Connection c = connect("/default"); Statement s = c.createStatement()) {
      s.setQueryTimeout(2);
      long began = System.nanoTime();
      try { s.execute(System.getenv("SQL_ENDLESS")); say("no timeout"); }
      catch (SQLException e) { say(e.getClass().getSimpleName() + " " + failure(e)); }
      say("in time " + (System.nanoTime() - began < 15e9));
    }
  }

  /** The calls that DBeaver makes when it connects and its tree is opened. */
  void metadata() throws SQLException {
    try (Connection c = connect("/compat")) {
      DatabaseMetaData m = c.getMetaData();
      say("product " + m.getDatabaseProductName() + " " + m.getDatabaseProductVersion());
      say("schema " + c.getSchema());
      list("catalog", m.getCatalogs(), "TABLE_CAT");
      list("table type", m.getTableTypes(), "TABLE_TYPE");
      list("type", m.getTypeInfo(), "TYPE_NAME", "DATA_TYPE");
      list("schema", m.getSchemas(), "TABLE_SCHEM");
      list("table", m.getTables(null, "compat", "%", null), "TABLE_NAME", "TABLE_TYPE");
      list("view", m.getTables(null, "compat", "%", new String[] {"VIEW"}), "TABLE_NAME");
      list("column", m.getColumns(null, "compat", "seen", "%"), "COLUMN_NAME", "TYPE_NAME", "DATA_TYPE", "ORDINAL_POSITION", "REMARKS");
      list("key", m.getPrimaryKeys(null, "compat", "seen"), "COLUMN_NAME");
      list("foreign key", m.getImportedKeys(null, "compat", "seen"), "FKCOLUMN_NAME");
      list("function", m.getFunctions(null, null, "upper"), "FUNCTION_NAME");
      list("procedure", m.getProcedures(null, null, "%"), "PROCEDURE_NAME");
      c.setSchema("default");
      say("schema " + c.getSchema());
    }
  }

  void list(String what, ResultSet r, String... columns) throws SQLException {
    while (r.next()) {
      StringJoiner row = new StringJoiner("|");
      for (String col : columns) row.add(r.getString(col));
      say(what + " " + row);
    }
    r.close();
  }

  static void lost(String[] args) throws Exception {
    List<Thread> threads = new ArrayList<>();
    List<List<String>> said = new ArrayList<>();
    CountDownLatch running = new CountDownLatch(args.length - 1);
    for (String spec : Arrays.asList(args).subList(1, args.length)) {
      List<String> lines = new ArrayList<>();
      Thread t = new Thread(() -> {
        OUT.set(lines);
        try { new Jdbc(spec).lost(running); }
        catch (Exception e) { say("FAILED " + e); e.printStackTrace(); running.countDown(); }
      });
      said.add(lines);
      threads.add(t);
      t.start();
    }
    running.await();
    System.err.println("all statements run");
    for (Thread t : threads) t.join();
    for (List<String> lines : said) lines.forEach(STDOUT::println);
  }

  void lost(CountDownLatch running) {
    section("engine lost", () -> {
      try (Connection c = connect(HOST, "/default", "lost"); Statement s = c.createStatement()) {
        Thread watch = new Thread(() -> {
          for (boolean runs = false; !runs; ) {
            try { Thread.sleep(50); runs = log(s).stream().anyMatch(l -> l.contains("Stage ")); }
            catch (Exception e) { } // not begun yet
          }
          running.countDown();
        });
        s.execute("SET spark.sql.shuffle.partitions=13");
        watch.start();
        try { s.execute(System.getenv("SQL_ENDLESS")); say("no error"); }
        catch (SQLException e) { say(failure(e)); }
        watch.join();
        System.err.println(name + " has its error");
        print(c, "SET spark.sql.shuffle.partitions");
        print(c, "SELECT count(*) FROM range(5)");
      }
    });
  }

  /** Where a thread's lines go: those of several drivers at once must not mix. */
  static class PrintStreamPerThread extends ThreadLocal<List<String>> {
    @Override protected List<String> initialValue() { return new ArrayList<>(); }
    boolean direct() { return Thread.currentThread().getName().equals("main"); }
  }
}
