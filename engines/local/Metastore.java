import java.net.InetAddress;
import java.net.InetSocketAddress;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.HiveMetaStore;
import org.apache.hadoop.hive.metastore.TSetIpAddressProcessor;
import org.apache.hadoop.hive.metastore.api.ThriftHiveMetastore;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TServerSocket;
import org.apache.thrift.transport.TTransportFactory;

/** Runs the stock Hive metastore on loopback only: java -cp 'jars/*' Metastore.java PORT */
public class Metastore {
  public static void main(String[] args) throws Exception {
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0]));
    TServerSocket socket = new TServerSocket(address);
    // The handler opens the database, so once this line is printed the catalogue really answers.
    ThriftHiveMetastore.Iface handler = HiveMetaStore.newRetryingHMSHandler("metastore", new HiveConf(Metastore.class), false);
    TThreadPoolServer server = new TThreadPoolServer(new TThreadPoolServer.Args(socket)
        .processor(new TSetIpAddressProcessor<>(handler))
        .transportFactory(new TTransportFactory())
        .protocolFactory(new TBinaryProtocol.Factory())
        .minWorkerThreads(2).maxWorkerThreads(500));
    System.out.println("metastore listens on 127.0.0.1:" + socket.getServerSocket().getLocalPort());
    server.serve();
  }
}
