UPDATE bench.counter SET n = n + 1;
