package extra;

/** What a batch brings in a second jar. */
public class Extra {
  public static int twice(int n) {
    return 2 * n;
  }
}
