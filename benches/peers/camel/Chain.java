package pitwire.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.LoggingLevel;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.main.Main;

/**
 * JSON from MQTT to Cassandra by Apache Camel, as a Java shop would put it together.
 *
 * <p>Arguments: {@code BROKER_HOST:PORT CASSANDRA_HOST:PORT KEYSPACE WAY}, where a way is
 * <ul>
 *   <li>{@code each}: an insert for a message, acknowledged after it
 *   <li>{@code gathered}: acknowledged on arrival, inserted in batches of {@value #GATHERED} samples
 *   <li>{@code message}: a batch for a message, acknowledged after it
 * </ul>
 * A failed insert is tried again for ever, 200 ms later.
 */
public final class Chain extends RouteBuilder {
    private static final int WORKERS = 64;
    private static final int QUEUE = 2_000;
    private static final int GATHERED = 500;
    private static final int COLUMNS = 5;
    private static final String INSERT = "INSERT INTO samples (car, second, channel, t, v) VALUES (?, ?, ?, ?, ?)";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String broker;
    private final String store;
    private final String way;

    private Chain(String broker, String cassandra, String keyspace, String way) {
        this.broker = "paho-mqtt5:json/#?brokerUrl=tcp://" + broker + "&clientId=camel&qos=1&cleanStart=false"
            + "&sessionExpiryInterval=86400&receiveMaximum=1000&automaticReconnect=true";
        this.store = "cql://" + cassandra + "/" + keyspace + "?prepareStatements=true&cql=" + INSERT;
        this.way = way;
    }

    /** {@code {"ts": ms, "values": {channel: number}}} to the values of its inserts, one after the other. */
    private static void understand(Exchange exchange) throws Exception {
        String topic = exchange.getIn().getHeader("CamelMqttTopic", String.class);
        String car = topic.substring(topic.indexOf('/') + 1);
        JsonNode message = JSON.readTree(exchange.getIn().getBody(byte[].class));
        long ms = message.get("ts").asLong();
        List<Object> values = new ArrayList<>(COLUMNS * message.get("values").size());
        for (Map.Entry<String, JsonNode> sample : message.get("values").properties()) {
            values.add(car);
            values.add(ms / 1000);
            values.add(sample.getKey());
            values.add(ms);
            values.add(sample.getValue().asDouble());
        }
        exchange.getIn().setBody(values);
    }

    /** All samples of the body in one batch; they are of one partition but where a second ends. */
    private static void batch(Exchange exchange) {
        int samples = exchange.getIn().getBody(List.class).size() / COLUMNS;
        String batch = "BEGIN UNLOGGED BATCH " + (INSERT + "; ").repeat(samples) + "APPLY BATCH";
        exchange.getIn().setHeader("CamelCqlQuery", batch);
    }

    @SuppressWarnings("unchecked")
    private static Exchange gather(Exchange all, Exchange next) {
        if (all == null) {
            return next;
        }
        all.getIn().getBody(List.class).addAll(next.getIn().getBody(List.class));
        return all;
    }

    @Override
    public void configure() {
        errorHandler(defaultErrorHandler().maximumRedeliveries(-1).redeliveryDelay(200)
            .retryAttemptedLogLevel(LoggingLevel.DEBUG));
        String into = "seda:samples?size=" + QUEUE + "&blockWhenFull=true";
        String out = "seda:samples?size=" + QUEUE + "&concurrentConsumers=" + WORKERS;
        switch (way) {
            case "each" -> {
                from(broker + "&manualAcksEnabled=true").to(into);
                from(out).process(Chain::understand).to(store);
            }
            case "message" -> {
                from(broker + "&manualAcksEnabled=true").to(into);
                from(out).process(Chain::understand).process(Chain::batch).to(store);
            }
            case "gathered" -> {
                from(broker).process(Chain::understand)
                    .aggregate(constant(true), Chain::gather).completionSize(GATHERED).completionTimeout(500)
                    .process(Chain::batch).to(into);
                from(out).to(store);
            }
            default -> throw new IllegalArgumentException("way: each, gathered or message, not " + way);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Main main = new Main();
        main.configure().addRoutesBuilder(new Chain(arguments[0], arguments[1], arguments[2], arguments[3]));
        main.run();
    }
}
