#!/usr/bin/perl

# Not under valgrind: it measures memory
#
# Thousands of requests of each kind at one worker, again and again: its memory
# does not grow with them.  The connections stay, so neither may what belongs
# to a connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Test::More tests => 7;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(get post);
use VidgenTest::Http2;
use VidgenTest::Http::Message;
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(slurp uuid wait_for);

# requests of each kind in a round, and what a round may add, in kB: a leak of
# the smallest piece that malloc gives, 32 bytes for each request, is more
my ($n, $bound) = (1500, 40);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $signer = VidgenTest::Provider->new;

# The provider and the application are locations of the same worker.
my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => { HOOK_SECRET => $signer->secret, VIDGEN_SECRET => 'for-tokens',
        MALLOC_TOP_PAD_ => 0, MALLOC_TRIM_THRESHOLD_ => 0 },
    log  => 'warn',
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 1;

events { worker_connections 4096; }

http {
    %%HTTP%%

    vidgen_database     "%%DB%%" timeout=1m;
    vidgen_secret       env:VIDGEN_SECRET;
    vidgen_monitor      interval=1h poll=1h overdue=1h fails=1000;
    keepalive_requests  1000000;
    keepalive_timeout   1h;

    vidgen_provider standin {
        base  http://127.0.0.1:%%PORT_PROVIDER%%;

        submit {
            url     $vidgen_base/$vidgen_model_path;
            header  X-Attempt $vidgen_attempt_id;
            body    /prompt $vidgen_prompt;
            body    /hook $vidgen_webhook_url;
            job_id  /id;
            error   /error;
            keep    url /url;
        }
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
            video_url  /output/video_url;
            error      /error;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_PROVIDER%%;

        location = /good    { return 200 '{"id":"$request_id","url":"u"}'; }
        location = /refuse  { return 422 '{"error":"not this"}'; }
        location = /unknown { return 504; }
        location = /fail    { return 503; }
        location = /app     { return 200 'seen'; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/webhook;
        vidgen_retry                  attempts=2 backoff=1ms max=1ms;
        client_body_buffer_size       1k;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate { vidgen_generate; }
        location = /webhook  { vidgen_webhook; }
        location /jobs/      { vidgen_job; }
        location = /health   { vidgen_health; }
        location = /status   { stub_status; }
        location = /verify   {
            vidgen_verify standin;
            proxy_pass http://127.0.0.1:%%PORT_PROVIDER%%/app;
        }
    }
}
EOT

my $user = customer($pg, 1_000_000);
my ($worker) = $nginx->workers;
my @connections;
my $number = 0;


# ---- requests --------------------------------------------------------------

sub bytes {
    my ($method, $uri, $headers, $body) = @_;
    my (undef, $bytes) = VidgenTest::Http::Message::request($method,
        $nginx->url($uri), $headers, $body, keep => 1);
    return $bytes;
}

sub generation {
    my ($model, %headers) = @_;
    return bytes('POST', '/generate', { %headers,
        'Content-Type' => 'application/json' },
        qq({"user_id":"$user","model_id":"$model","prompt":"p"}));
}

sub webhook {
    my ($uri, %args) = @_;
    my ($headers, $body) = $signer->signed_webhook(%args);
    return bytes('POST', $uri, $headers, $body);
}

# Webhooks of jobs that wait for them: every other one by its attempt, some
# failed, some larger than what is kept in memory.
sub fresh {
    my $rows = $pg->query("SELECT a.id, a.provider_job_id
        FROM vidgen.attempts a JOIN video_jobs j ON j.id = a.job_id
        WHERE a.state = 'accepted' AND j.status = 'queued' LIMIT $n");

    my @webhooks;
    for my $row (@$rows) {
        my ($attempt, $id) = @$row;
        my $i = @webhooks;
        push @webhooks, webhook($i % 2 ? '/webhook'
                : "/webhook?provider=standin&attempt=$attempt",
            id => $id, status => $i % 10 ? 'completed' : 'failed',
            $i % 7 ? () : (more => { padding => 'x' x 3000 }));
    }
    return @webhooks;
}

sub forged {
    my $i = shift;
    my ($headers, $body) = $signer->signed_webhook(id => "x-$i");
    $headers->{'X-Signature'} = ('0' x 64, 'zz', '', '0' x 500)[$i % 4];
    return bytes('POST', '/webhook', $headers, $body);
}

my @malformed = ('', '{', '[]',
    '[' x 1000, '{"request_id":1e999}', "{\"request_id\":\"\xff\"}");

# ---- sending ---------------------------------------------------------------

# Sends requests over four connections that stay, and counts the statuses.  One
# at a time over each: buffers that nginx needs for more stay with it as well.
sub talk {
    my (@requests) = @_;

    my %count;
    while (my @batch = splice @requests, 0, 4) {
        for my $k (0 .. $#batch) {
            $connections[$k] //= IO::Socket::INET->new(
                PeerAddr => '127.0.0.1:' . $nginx->port) or die $@;
            print { $connections[$k] } $batch[$k];
            $connections[$k]->flush;
        }
        $count{ answer($connections[$_]) }++ for 0 .. $#batch;
    }
    return join ' ', map { "$_:$count{$_}" } sort keys %count;
}

sub answer {
    my ($connection) = @_;

    my $in = '';
    while (1) {
        sysread $connection, $in, 65536, length $in
            or die 'nginx closed a connection';
        my $answer = VidgenTest::Http::Message::take_response(\$in);
        return $answer->{status} if $answer;
    }
}

# Clients that leave: in the middle of a request, and after it.
sub leave {
    for my $i (1 .. $n) {
        my $request = $i % 2 ? generation('good')
            : webhook('/webhook', id => "nobody-$i");
        my $socket = IO::Socket::INET->new(
            PeerAddr => '127.0.0.1:' . $nginx->port) or die $@;
        syswrite $socket, $i % 3 ? $request
            : substr $request, 0, -1 - rand(length($request) - 1);
        close $socket;
        finished() if $i % 10 == 0;
    }

    my $body = qq({"user_id":"$user","model_id":"good","prompt":"p"});
    for (1 .. $n / 100) {
        my $h2 = VidgenTest::Http2->new($nginx->url('', 'H2'));
        for (1 .. 10) {
            $h2->begin('POST', '/generate', {
                'content-length' => length $body }, $body);
            $h2->cancel;
        }
        $h2->close;
        finished();
    }
}

# No request is under way any more.
sub finished {
    wait_for { get($nginx->url('/status'))->{body} =~ /Writing: 1 / } 60
        or die 'requests are left';
}

# Nor is anything else.
sub quiet {
    finished();
    wait_for { !$pg->value("SELECT count(*) FROM vidgen.attempts
        WHERE state IN ('planned', 'sending')") } 60
        or die 'attempts are left';
}

# What is the worker's own, in kB: not the shared zone, which fills.
sub memory {
    slurp("/proc/$worker/status") =~ /^RssAnon:\s+(\d+)/m or die;
    return $1;
}

# ---- rounds ----------------------------------------------------------------

my $known = generation('good', 'Idempotency-Key' => 'the-key');
my $job = post($nginx->url('/generate'), { user_id => $user,
    model_id => 'good', prompt => 'p' }, { 'Idempotency-Key' => 'the-key' }
    )->{json}{job_id};

# A provider that never works would not be asked any more.
my $often = $n / 50;
my $mostly = sub {
    my ($what) = @_;
    return join ' ', "200:$often", "$what:" . ($n - $often) if $what =~ /^\d/;
    return map { generation($_ % 50 ? $what : 'good') } 1 .. $n;
};

my @kinds = (
    ['accepted',  "200:$n", sub { map { generation('good') } 1 .. $n }],
    ['refused',   "422:$n", sub { map { generation('refuse') } 1 .. $n }],
    ['unknown',   $mostly->(202), sub { $mostly->('unknown') }],
    ['failed',    $mostly->(502), sub { $mostly->('fail') }],
    ['known key', "200:$n", sub { ($known) x $n }],
    ['bad input', "400:$n", sub { map { bytes('POST', '/generate', {},
        $malformed[$_ % @malformed]) } 1 .. $n }],
    ['fresh',     "200:$n", \&fresh],
    ['replay',    "200:$n", sub {
        my $id = $pg->value("SELECT provider_job_id FROM vidgen.attempts
            WHERE state = 'completed' LIMIT 1");
        (webhook('/webhook', id => $id)) x $n }],
    ['parked',    "200:$n", sub { map { webhook('/webhook',
        id => 'parked-' . $number++) } 1 .. $n }],
    ['forged',    "401:$n", sub { map { forged($_) } 1 .. $n }],
    ['malformed', "400:$n", sub { map { webhook('/webhook',
        body => $malformed[$_ % @malformed]) } 1 .. $n }],
    ['job',       "200:$n", sub { (bytes('GET', "/jobs/$job")) x $n }],
    ['no job',    "404:$n", sub { map { bytes('GET', '/jobs/' . uuid()) }
        1 .. $n }],
    ['verified',  "200:$n", sub { map { webhook('/verify',
        id => 'verify-' . $number++) } 1 .. $n }],
    ['health',    "200:$n", sub { (bytes('GET', '/health')) x $n }],
);

my %wrong;

# All kinds once; how much more memory there is then.
sub round {
    my $before = memory();
    my $began = time;

    for my $kind (@kinds) {
        my ($name, $expected, $requests) = @$kind;
        my $was = memory();
        my $got = talk($requests->());
        $wrong{$name} = $got if $got ne $expected;
        note sprintf '%-10s %s, %+d kB, at %d s', $name, $got,
            memory() - $was, time - $began;
    }

    my $was = memory();
    leave();
    quiet();
    note sprintf '%-10s %+d kB, at %d s', 'left', memory() - $was,
        time - $began;
    return memory() - $before;
}

note 'the first round: ', round(), ' kB';
is_deeply(\%wrong, {}, 'the answers');

# A leak grows in each round; what happens to be larger than ever before, a
# batch for example, does not.
my $growth;
for (1 .. 3) {
    $growth = round();
    note "another round: $growth kB";
    last if $growth <= $bound;
}
cmp_ok($growth, '<=', $bound, 'memory does not grow');
is_deeply(\%wrong, {}, 'the answers again');
is_deeply([$nginx->workers], [$worker], 'it is the same worker');

close $_ for @connections;
ok((wait_for { get($nginx->url('/status'))->{body}
    =~ /^Active connections: 1 / }), 'no connection is left');
is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->deadlocks, 0, 'no deadlock');
