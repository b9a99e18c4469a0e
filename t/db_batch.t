#!/usr/bin/perl

# Not under valgrind: it counts what comes in at the same time
#
# What waits while its connection is busy travels together: up to 64 webhooks
# or generations in one transaction.  A lone one goes at once, and one that
# fails does not sink its batch.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 16;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post request send_request wait_answer);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'timeout=20s',
    events   => 'worker_connections 2048;',
    fal      => $provider,
    server   => 'location = /status { stub_status; }')->start;

# Sends requests while the database does not answer, and lets it answer when
# nginx has read all of them.  Returns the statuses and how many there were of
# each.
sub together {
    my @requests = @_;

    $proxy->hold('both');
    my @calls = map { send_request(@$_) } @requests;
    wait_for {
        my ($now) = get($nginx->url('/status'))->{body} =~ /Writing: (\d+)/;
        $now == @calls + 1;
    } or die "they did not arrive\n";
    $proxy->release;

    my %count;
    $count{ wait_answer($_)->{status} }++ for @calls;
    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}

# How many transactions have written these rows.
sub transactions {
    my ($table, $where) = @_;
    return $pg->value(
        "SELECT count(DISTINCT xmin::text) FROM $table WHERE $where");
}

my $user = customer($pg, 1000);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

# generations: what nginx read first, alone or not, then 64, 64, 64 and the rest

is(together(([@generate]) x 200), '200: 200', '200 generations');
like(transactions('vidgen.ledger', "entry = 'hold'"), qr/^[45]$/,
    'begun in 5 transactions, or 4');
is(@{ $provider->requests }, 200, 'each submitted once');
is($pg->value("SELECT count(*) FROM vidgen.attempts
    WHERE state = 'accepted'"), 200, 'and recorded');

# webhooks, one in ten of a failure

my $n = 0;
my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_->{id},
        status => ++$n % 10 ? 'completed' : 'failed')] }
    @{ $provider->requests };

is(together(@webhooks), '200: 200', '200 webhooks');
like(transactions('idempotency_log', "idempotency_key LIKE 'webhook:%'"),
    qr/^[45]$/, 'applied in 5 transactions, or 4');
is_deeply($pg->query('SELECT status, count(*) FROM video_jobs
    GROUP BY status ORDER BY status'),
    [['completed', 180], ['failed', 20]], 'each has its result');
cmp_ok(transactions('vidgen.ledger', "entry = 'refund'"), '<=', 5,
    'refunds go with them');

# alone it does not wait for company

my $answer = request(@generate);
is($answer->{status}, 200, 'one alone');
cmp_ok($answer->{time}, '<', 5, 'is answered at once');

# one that the database refuses

$provider->forget;
is(together(([@generate]) x 21), '200: 21', '21 generations');
my @ids = map { $_->{id} } @{ $provider->requests };
$pg->query(<<"SQL");
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    \$\$ BEGIN RAISE EXCEPTION 'not this one'; END \$\$;
CREATE TRIGGER refuse BEFORE UPDATE ON vidgen.attempts FOR EACH ROW
    WHEN (OLD.provider_job_id = '$ids[10]') EXECUTE FUNCTION refuse();
SQL

my @some = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_)] } @ids;
is(together(@some), '200: 20 503: 1',
    'one bad webhook among 21: the others are applied');
is_deeply($pg->query("SELECT a.state, count(*) FROM vidgen.attempts a
    WHERE provider_job_id IN ('" . join("', '", @ids) . "')
    GROUP BY a.state ORDER BY a.state"),
    [['accepted', 1], ['completed', 20]], 'and it is not');

$pg->query('DROP TRIGGER refuse ON vidgen.attempts');
is(request(@{ $some[10] })->{status}, 200, 'it is later');
is($pg->value("SELECT count(*) FROM vidgen.attempts
    WHERE state = 'accepted'"), 1, 'only the one alone is open');
is_deeply([wrong_books($pg)], [], 'the books are right');
