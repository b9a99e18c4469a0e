#!/usr/bin/perl

# Generations by the hundred, with providers that do anything, while workers
# are killed, nginx reloads, PostgreSQL restarts and somebody locks rows; then
# the books are inspected.
#
# VIDGEN_SEED=N repeats a run's decisions (not their timing), and
# VIDGEN_GENERATIONS=N sets how many there are.
#
# Not under valgrind: it kills.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use POSIX ();
use Test::More tests => 21;
use Time::HiRes qw(sleep time);

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Fickle;
use VidgenTest::Http qw(get leave send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Twice qw(asked_twice);
use VidgenTest::Util qw(reap wait_for);

my $seed = $ENV{VIDGEN_SEED} // int rand 1_000_000;
my $generations = $ENV{VIDGEN_GENERATIONS} // 500;
my $clients = 16;
diag("VIDGEN_SEED=$seed");

my @providers = qw(a b c);          # c is idempotent
my $pg = VidgenTest::Postgres->new(fsync => 0);
my $n = 0;
my %standin = map { $_ => VidgenTest::Fickle->new(prefix => $_,
    seed => $seed + ++$n) } @providers;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, map { uc, $standin{$_}->url }
        @providers },
    env  => { TEST_SECRET => 'webhook-secret', TOKEN_SECRET => 'token-key' },
    files => { 'providers.conf' => join '', map { <<"EOT" } @providers },
vidgen_provider $_ {
    submit {
        url     %%\U$_\E%%/$_;
        header  X-Attempt \$vidgen_attempt_id;
        body    /prompt \$vidgen_prompt;
        body    /webhook_url \$vidgen_webhook_url;
        job_id  /request_id;
        @{[$_ eq 'c' ? 'idempotent;' : '']}
    }
    webhook {
        signature  hmac-sha256 header=X-Signature;
        secret     env:TEST_SECRET;
        job_id     /request_id;
        status     /status;
        video_url  /output/video_url;
        error      /error;
    }
}
EOT
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes        3;
worker_shutdown_timeout 30s;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=2s;
    vidgen_monitor  fails=20;
    vidgen_secret   env:TOKEN_SECRET;
    include         providers.conf;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        vidgen_attempt_timeout        600ms;
        vidgen_retry                  attempts=2 backoff=100ms;
        vidgen_next_provider_timeout  3s;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /anything       { vidgen_generate b c a;
                                     vidgen_next_provider error timeout
                                         http_5xx http_429 http_401
                                         invalid_answer; }
        location = /unsent         { vidgen_generate c a b;
                                     vidgen_next_provider unsent; }
        location = /video-webhook  { vidgen_webhook; }
        location /jobs/            { vidgen_job; }
    }
}
EOT

$nginx->allow(qr/exited on signal 9/, qr/was locked by/,
    qr/\[alert\].*open socket #\d+ left in connection/, qr/: aborting$/);

$pg->query("INSERT INTO models (id, credits_per_generation) VALUES
    ('m1', 1), ('m3', 3), ('free', 0)");
my @users = map { customer($pg, 100_000) } 1 .. 8;
push @users, customer($pg, 40);


# ---- the clients, each in a process of its own ------------------------------

# One generation and its repetitions; what was answered.
sub generation {
    my ($name) = @_;

    my $user = $users[rand @users];
    my $key = rand() < 0.7 ? $name : undef;
    my $uri = (qw(/generate-video /generate-video /anything /unsent))[rand 4];
    my %order = (user_id => $user, model_id => (qw(m1 m1 m3 free))[rand 4],
        prompt => $name);
    $order{provider} = $providers[rand @providers] if rand() < 0.2;
    my @request = ('POST', $nginx->url($uri), { $key
        ? ('Idempotency-Key' => $key) : () }, JSON::PP->new->encode(\%order));

    my @answers;
    for my $try (1 .. ($key ? 5 : 1)) {
        my $call = eval { send_request(@request) } or last;
        if (rand() < 0.05) {
            sleep rand 0.5;
            leave($call, rand() < 0.5);
            next;
        }
        my $answer = wait_answer($call);
        push @answers, { name => $name, key => defined $key,
            status => $answer->{status},
            map { $_ => $answer->{json}{$_} } qw(job_id code provider) };
        last if rand() < 0.5 && $answer->{status} =~ /^(?:200|422|400)$/;
        sleep rand 0.4;
    }
    return @answers;
}

sub client {
    my ($number) = @_;

    srand $seed * 1000 + $number;
    open my $file, '>', $nginx->prefix . "/client-$number" or die $!;
    for my $i (1 .. $generations) {
        next if $i % $clients != $number;
        print $file JSON::PP->new->encode($_), "\n"
            for generation("generation $i");
    }
    close $file;
}

my $began = time;
my @pids;
for my $number (0 .. $clients - 1) {
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        eval { client($number); 1 } or print STDERR $@;
        POSIX::_exit(0);
    }
    push @pids, $pid;
}


# ---- what goes wrong meanwhile ----------------------------------------------

srand $seed;
my %done;
my @actions = (('kill') x 6, ('reload') x 3, ('lock') x 2, 'crash', 'restart',
    'cut');

while (@pids) {
    sleep 0.2 + rand 0.6;
    @pids = grep { !reap($_, -1) } @pids;
    my $action = $actions[rand @actions];
    $done{$action}++;

    if ($action eq 'kill') {
        my @workers = $nginx->workers;
        kill 'KILL', $workers[rand @workers] if @workers;
    } elsif ($action eq 'reload') {
        kill 'HUP', $nginx->pid;
    } elsif ($action eq 'lock') {
        $pg->sqlstate(<<'SQL');
DO $$
BEGIN
    PERFORM FROM video_jobs WHERE status IN ('queued', 'processing')
      ORDER BY random() LIMIT 10 FOR UPDATE SKIP LOCKED;
    PERFORM FROM vidgen.attempts WHERE state IN ('sending', 'accepted')
      ORDER BY random() LIMIT 10 FOR UPDATE SKIP LOCKED;
    PERFORM FROM user_credits ORDER BY random() LIMIT 2
      FOR UPDATE SKIP LOCKED;
    PERFORM pg_sleep(random());
END $$
SQL
    } elsif ($action eq 'cut') {
        $pg->sqlstate("SELECT pg_terminate_backend(pid)
            FROM pg_stat_activity WHERE usename = 'edge'");
    } else {
        $pg->restart($action eq 'crash' ? 'immediate' : 'fast');
    }
}

diag(sprintf '%d generations in %.0f s; %s', $generations, time - $began,
    join ', ', map { "$_ $done{$_}" } sort keys %done);
cmp_ok($done{kill} // 0, '>', 0, 'workers were killed');


# ---- it calms down ----------------------------------------------------------

ok(wait_for(sub { !grep { $_->pending } values %standin }, 60),
    'every webhook is answered');
ok(wait_for(sub { get($nginx->url("/jobs/$users[0]"))->{status} == 404 }),
    'the database is there');
ok($nginx->quit(60), 'every operation comes to its end');

my %log = map { $_ => $standin{$_}->requests } @providers;
my @webhooks = map { @{ $standin{$_}->webhooks } } @providers;
my @answers = map { map { JSON::PP->new->decode($_) } split /\n/,
    $nginx->read_file("client-$_") } 0 .. $clients - 1;

sub count { $pg->value("SELECT count(*) FROM ($_[0]) x") }

is_deeply([wrong_books($pg)], [], 'the books are right');
is(count(q{SELECT FROM video_jobs j WHERE status IN ('queued', 'processing')
    AND NOT EXISTS (SELECT FROM vidgen.attempts a WHERE a.job_id = j.id
    AND a.state IN ('sending', 'unknown', 'accepted'))}), 0,
    'what is open is open by right');

# the lease of whoever was killed is over, and then all times are

$pg->query("UPDATE vidgen.attempts SET lease = now() WHERE lease IS NOT NULL");
$pg->query("SELECT vidgen.sweep('30 min', '1 day', 10000)");
is(count("SELECT FROM vidgen.attempts WHERE state = 'sending'"), 0,
    'the sweep leaves nothing that is being sent');
is_deeply([wrong_books($pg)], [], 'the books are right then');

for (1 .. 2) {
    $pg->query("UPDATE vidgen.attempts SET since = since - interval '2 days',
        deadline = deadline - interval '2 days'");
    $pg->query("SELECT vidgen.sweep('30 min', '1 day', 10000)");
}
is(count("SELECT FROM video_jobs WHERE status NOT IN ('completed', 'failed')"),
    0, 'in the end every job has ended');
is_deeply([wrong_books($pg)], [], 'the books are right in the end');
is($pg->value("SELECT count(*) || ' ' || count(DISTINCT job_id)
    FROM vidgen.ledger WHERE entry = 'refund'") =~ s/ .*//r,
    count("SELECT FROM video_jobs WHERE status = 'failed'
        AND credits_used > 0"), 'a refund for each that failed');
is($pg->deadlocks, 0, 'no deadlock');


# ---- what providers have seen -----------------------------------------------

is_deeply([asked_twice(\%log, idempotent => ['c'])], [],
    'no provider was asked again for what it may have');

my %state = map { $_->[0] => $_ } @{ $pg->query(
    'SELECT id, provider, state FROM vidgen.attempts') };
my @strange = grep { my $a = $state{ $_->{headers}{'x-attempt'} };
    !$a || $a->[2] eq 'unsent' } map { @$_ } values %log;
is_deeply([map { $_->{headers}{'x-attempt'} } @strange], [],
    'none was asked without an attempt that says so');

my @refused = grep { $_->{status} >= 300 && $_->{status} < 500 } @webhooks;
is_deeply([map { "$_->{status} $_->{answer}" } @refused], [],
    'no webhook was refused');

my @forgotten = grep {
    my ($attempt) = $_->{url} =~ /attempt=([^&]+)/;
    my $state = $state{$attempt}[2];
    $_->{status} == 200 && $state ne 'completed'
        && ($_->{event}{status} eq 'completed' || $state ne 'failed');
} @webhooks;
is_deeply([map { $_->{url} } @forgotten], [],
    'what was acknowledged has happened');


# ---- what clients were told -------------------------------------------------

my %job = map { $_->[0] => $_ } @{ $pg->query(
    'SELECT id, status, prompt FROM video_jobs') };

is_deeply([grep { $_->{job_id} && !$job{ $_->{job_id} } } @answers], [],
    'every job that was named is there');
is_deeply([grep { $_->{status} =~ /^(?:422|502|503)$/ && $_->{job_id}
    && $job{ $_->{job_id} }[1] ne 'failed' } @answers], [],
    'what was said to have failed has');
is(count('SELECT FROM (SELECT prompt FROM video_jobs WHERE status <> '
    . "'failed' GROUP BY prompt HAVING count(*) > 1) x"), 0,
    'no request made two jobs');

my %without_key = map { $_->{name} => 1 } grep { !$_->{key} } @answers;
my %jobs;
$jobs{ $_->[2] }++ for values %job;
is_deeply([grep { $jobs{$_} && $jobs{$_} > 1 } keys %without_key], [],
    'without a key each request made one at most');

my %statuses;
$statuses{ $_->{status} }++ for @answers;
diag(join ', ', map { "$_: $statuses{$_}" } sort keys %statuses);
diag(join ', ', map { "$_->[0] $_->[1]" } @{ $pg->query("SELECT state,
    count(*) FROM vidgen.attempts GROUP BY 1 ORDER BY 1") });
ok($statuses{200} && $statuses{202} && $statuses{502},
    'answers of all kinds');
