import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;

/** A player, as benchmarks/peers/player.py describes it, on Curator's LeaderLatch or LeaderSelector (--variant). */
public class CuratorPlayer {
    interface Turn {
        void leave() throws Exception;
    }

    static String now() {
        return String.format("%.9f", System.nanoTime() / 1e9); // CLOCK_MONOTONIC on Linux
    }

    static synchronized void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** A latch is closed to leave, and a new one made to contend again. */
    static Turn latch(CuratorFramework client, String election) throws Exception {
        LeaderLatch latch = new LeaderLatch(client, election);
        latch.addListener(new LeaderLatchListener() {
            public void isLeader() {
                String at = now();
                tell("leads " + at);
            }

            public void notLeader() {
            }
        });
        latch.start();
        return () -> {
            String at = now();
            latch.close();
            tell("left " + at);
        };
    }

    /**
     * A selector leads for as long as its method runs, and is queued again to contend again. It gives up by itself when its
     * connection breaks while it waits: autoRequeue() would help, but would also have the one that has just left queue up
     * while its successor is being measured.
     */
    static class Selector extends LeaderSelectorListenerAdapter {
        final LeaderSelector selector;
        volatile CountDownLatch leave;
        boolean started;

        Selector(CuratorFramework client, String election) {
            selector = new LeaderSelector(client, election, this);
            client.getConnectionStateListenable().addListener((whose, state) -> {
                if (state == ConnectionState.RECONNECTED) {
                    new Thread(this::goOn).start();
                }
            });
        }

        /** Queues up again, when it is known whether that is needed. */
        void goOn() {
            for (int i = 0; i < 100 && leave != null && leave.getCount() > 0; i++) {
                selector.requeue(); // does nothing where it stands in the queue
                try {
                    Thread.sleep(50);
                } catch (InterruptedException e) {
                    return;
                }
            }
        }

        public void takeLeadership(CuratorFramework client) throws Exception {
            String at = now();
            tell("leads " + at);
            leave.await();
            at = now();
            tell("left " + at);
        }

        Turn join() throws Exception {
            leave = new CountDownLatch(1);
            if (!started) {
                started = true;
                selector.start();
            } else {
                while (!selector.requeue()) { // the end of the turn before is still being noted
                    Thread.sleep(1);
                }
            }
            return leave::countDown;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        int timeout = (int) Math.round(Double.parseDouble(options.get("--session-timeout")) * 1000);
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                options.get("--hosts"), timeout, timeout, new ExponentialBackoffRetry(100, 10));
        client.start();
        client.blockUntilConnected();
        tell("ready");
        String election = options.get("--election");
        boolean isLatch = options.get("--variant").equals("latch");
        BufferedReader stdin = new BufferedReader(new InputStreamReader(System.in));
        Selector selector = new Selector(client, election);
        Turn turn = null;
        for (String word = stdin.readLine(); word != null; word = stdin.readLine()) {
            if (word.equals("join")) {
                turn = isLatch ? latch(client, election) : selector.join();
            } else {
                turn.leave();
            }
        }
        client.close();
        System.exit(0);
    }
}
