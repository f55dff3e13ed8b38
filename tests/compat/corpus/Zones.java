import java.time.*;
import java.util.*;

/** Prints, for each time zone that Java knows, its distance from UTC in seconds at the instants given as seconds. */
public class Zones {
  public static void main(String[] args) {
    for (String id : new TreeSet<>(ZoneId.getAvailableZoneIds())) {
      StringJoiner line = new StringJoiner(" ");
      line.add(id);
      for (String at : args) line.add("" + ZoneId.of(id).getRules().getOffset(Instant.ofEpochSecond(Long.parseLong(at))).getTotalSeconds());
      System.out.println(line);
    }
  }
}
