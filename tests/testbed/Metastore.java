import java.net.InetAddress;
import java.net.InetSocketAddress;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.HiveMetaStore;
import org.apache.hadoop.hive.metastore.IHMSHandler;
import org.apache.hadoop.hive.metastore.TUGIBasedProcessor;
import org.apache.hadoop.hive.thrift.TUGIContainingTransport;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TServerSocket;

/**
 * The stock Hive metastore on one address, as its own main class starts it where hive.metastore.execute.setugi is true: what a
 * caller does on the file system, it does as that caller. java -cp 'conf:jars/*' Metastore.java HOST PORT
 */
public class Metastore {
  public static void main(String[] args) throws Exception {
    // The handler opens the database and makes the schema, so that a port that is open really serves.
    IHMSHandler handler = (IHMSHandler) HiveMetaStore.newRetryingHMSHandler("metastore", new HiveConf(Metastore.class), false);
    TServerSocket socket = new TServerSocket(new InetSocketAddress(InetAddress.getByName(args[0]), Integer.parseInt(args[1])));
    TThreadPoolServer server = new TThreadPoolServer(new TThreadPoolServer.Args(socket)
        .processor(new TUGIBasedProcessor<IHMSHandler>(handler))
        .transportFactory(new TUGIContainingTransport.Factory())
        .protocolFactory(new TBinaryProtocol.Factory())
        .minWorkerThreads(2).maxWorkerThreads(100));
    server.serve();
  }
}
