#!/usr/bin/perl

# A generation from beginning to end, on real parts: nginx with the module,
# PostgreSQL with the migrations, and stand-ins for three providers and for
# Telegram.  Everything is private and on free ports of 127.0.0.1, and gone
# afterwards.
#
# With KEEP=1 a process in the background keeps it running until it is killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../t/lib";

use JSON::PP;
use POSIX qw(setsid);

use VidgenTest::Certificate;
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid wait_for);

my $secret = 'demo-webhook-secret';
my $user = uuid();
my $json = JSON::PP->new->utf8->canonical;
my $step = 0;

$| = 1;
my $parent = $ENV{KEEP} ? go_to_background() : undef;


print <<'EOT';
A demonstration of ngx_http_vidgen_module: nginx itself submits a video
generation, receives the provider's signed webhook, and keeps job and credits
exact in PostgreSQL.  What follows are real requests and real answers.
EOT

step('Start PostgreSQL, three stand-in providers, a stand-in for Telegram,'
    . ' and nginx');

my $pg = VidgenTest::Postgres->new;
my $provider = VidgenTest::Provider->new(secret => $secret);
my $other = VidgenTest::Provider->new(prefix => 'other');
my $polled = VidgenTest::Provider->new(prefix => 'polled');
my $telegram = VidgenTest::Provider->new;
$telegram->answer(body => { ok => JSON::PP::true, result => {} });
my $certificate = VidgenTest::Certificate->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, CA => $certificate->ca,
              TELEGRAM => $telegram->url },
    env  => {
        FAL_BASE_URL          => $provider->url,
        FAL_API_KEY           => 'demo-api-key',
        FAL_WEBHOOK_SECRET    => $secret,
        RUNWAY_BASE_URL       => $other->url,
        RUNWAY_API_KEY        => 'demo-other-key',
        RUNWAY_WEBHOOK_SECRET => 'demo-other-secret',
        PIKA_BASE_URL         => $polled->url,
        PIKA_API_KEY          => 'demo-polled-key',
        TELEGRAM_TOKEN        => '123456:demo-token',
        TELEGRAM_CHAT         => '-10042',
        VIDGEN_SECRET         => 'demo-token-secret',
    },
    config => <<'EOT');
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    vidgen_secret   env:VIDGEN_SECRET;
    include         %%PROVIDERS%%/fal.conf;
    include         %%PROVIDERS%%/runway.conf;
    include         %%PROVIDERS%%/pika.conf;

    # all of it in seconds, to be seen
    vidgen_monitor  interval=1s fails=2 timeout=1s poll=1s overdue=5s;
    vidgen_alert    telegram token=env:TELEGRAM_TOKEN chat=env:TELEGRAM_CHAT
                    url=%%TELEGRAM%%;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_attempt_timeout        2s;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate %%CA%%;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook  { vidgen_webhook; }
        location /video-jobs/      { vidgen_job; }
        location = /health         { vidgen_health; }
    }
}
EOT
$nginx->start;

my $base = $nginx->url;
print 'PostgreSQL ', $pg->value('SHOW server_version'), ' on port ',
    $pg->port, ", migrated\nfal.ai     ", $provider->url,
    "\nrunway     ", $other->url, "\npika       ", $polled->url,
    "\nTelegram   ", $telegram->url, "\nnginx      $base\n";

step('Give a user 10 credits');
sql("INSERT INTO user_credits (user_id, balance) VALUES ('$user', 10)");


step('The client asks for a video');

my %order = (user_id => $user, model_id => 'video-model',
    prompt => 'a lighthouse in a storm');
my @generate = ('POST', "$base/generate-video",
    { 'Content-Type' => 'application/json' }, $json->encode(\%order));
my $answer = curl(200, @generate);
my $job = $answer->{job_id};

say_that('What the provider got from nginx:');
my $got = $provider->requests->[-1];
my $sent = $json->decode($got->{body});
print "  $got->{method} $got->{uri}\n",
    "  Authorization: $got->{headers}{authorization}\n",
    "  $got->{body}\n";
expect($sent->{prompt} eq $order{prompt}, 'the prompt reached the provider');

say_that('The credit is held, not spent:');
show("SELECT status, provider_name, provider_job_id, credits_used,
    (SELECT balance FROM user_credits WHERE user_id = j.user_id)
    FROM video_jobs j WHERE id = '$job'");


step("The provider's webhook arrives, signed");

my $id = $pg->value("SELECT provider_job_id FROM video_jobs WHERE id = '$job'");
my ($headers, $body) = $provider->signed_webhook(id => $id);
my @webhook = ('POST', $sent->{webhook_url}, $headers, $body);
curl(200, @webhook);

step('The job is completed');
my $shown = curl(200, 'GET', "$base/video-jobs/$job");
expect($shown->{status} eq 'completed', 'the job is completed');
say_that('The same in the database:');
show("SELECT id, status, provider_name, provider_job_id, video_url,
    credits_used, completed_at FROM video_jobs WHERE id = '$job'");


step('The provider sends the same webhook again');
curl(200, @webhook);
expect(last_headers() =~ /^X-Idempotent-Replay: true/mi,
    'the answer is marked as a replay');

step('Somebody forges a webhook');
$body =~ s/completed/failed/;
curl(401, 'POST', $sent->{webhook_url}, $headers, $body);
expect($pg->value("SELECT status FROM video_jobs WHERE id = '$job'")
    eq 'completed', 'the job is what it was');


step('Another video, with an Idempotency-Key: asking twice makes one job');
$generate[2]{'Idempotency-Key'} = 'order-2';
$answer = curl(200, @generate);
my $again = curl(200, @generate);
expect($again->{job_id} eq $answer->{job_id}, 'it is the same job');
expect(last_headers() =~ /^X-Idempotent-Replay: true/mi,
    'the second answer is marked as a replay');
my $second = $answer->{job_id};
say_that('Credits now:');
show("SELECT balance FROM user_credits WHERE user_id = '$user'");

step('That one fails at the provider; the credit comes back, once');
$sent = $json->decode($provider->requests->[-1]{body});
$id = $pg->value(
    "SELECT provider_job_id FROM video_jobs WHERE id = '$second'");
@webhook = ('POST', $sent->{webhook_url},
    $provider->signed_webhook(id => $id, status => 'failed',
        error => 'the model ran out of memory'));
curl(200, @webhook);
curl(200, @webhook);
$shown = curl(200, 'GET', "$base/video-jobs/$second");
expect($shown->{status} eq 'failed', 'the job is failed');


step('The first provider is down: the second one gets it');
my $port = $provider->port;
$provider->stop;
delete $generate[2]{'Idempotency-Key'};
$answer = curl(200, @generate);
expect($answer->{provider} eq 'runway', 'the second provider has it');
show("SELECT provider_name, provider_attempts, failover_reason
    FROM video_jobs WHERE id = '$answer->{job_id}'");

step('The monitor, a process of the master, probes it and says so');
eventually(sub { alerts() == 1 }, 'there is one message');
$answer = curl(200, 'GET', "$base/health?provider=fal.ai");
expect($answer->{status} eq 'down', 'the provider is down');
show_alert(0, qr/^Provider Down: fal\.ai/);

step('The provider is back');
$provider = VidgenTest::Provider->new(secret => $secret, port => $port);
eventually(sub { alerts() == 2 }, 'there is a second message');
$answer = curl(200, 'GET', "$base/health?provider=fal.ai");
expect($answer->{status} eq 'healthy', 'the provider is healthy');
show_alert(1, qr/^Provider Recovered: fal\.ai/);


step('It does not answer in time: the second provider again');
$provider->on(qr/^POST/, hang => 1);
$generate[3] = $json->encode({ %order, provider => 'fal.ai' });
$answer = curl(200, @generate);
my $third = $answer->{job_id};
expect($answer->{provider} eq 'runway', 'the second provider has it');
say_that('The first one may have it too, and that is not forgotten:');
show("SELECT number, provider, state, reason FROM vidgen.attempts
    WHERE job_id = '$third' ORDER BY number");

step('It has: its result lands late, and the user is not charged twice');
$sent = $json->decode((grep { $_->{method} eq 'POST' }
    @{ $provider->requests })[-1]{body});
curl(200, 'POST', $sent->{webhook_url},
    $provider->signed_webhook(id => 'late-result'));
$shown = curl(200, 'GET', "$base/video-jobs/$third");
expect($shown->{status} eq 'completed' && $shown->{provider} eq 'fal.ai',
    'the first result is the job\'s');
show("SELECT entry, amount FROM vidgen.ledger WHERE job_id = '$third'");


step('A provider without webhooks: the monitor polls');
$polled->on(qr/^GET .*jobs/, body => { status => 'done',
    result_url => 'https://cdn.test/polled.mp4' });
$generate[3] = $json->encode({ %order, provider => 'pika' });
$answer = curl(200, @generate);
expect_video($answer, 'https://cdn.test/polled.mp4');

step('A webhook that never comes: the monitor asks when it is overdue');
$provider->forget;
$provider->on(qr/^GET .*requests/, body => { status => 'completed',
    output => { video_url => 'https://cdn.test/lost.mp4' } });
$generate[3] = $json->encode({ %order, provider => 'fal.ai' });
$answer = curl(200, @generate);
expect_video($answer, 'https://cdn.test/lost.mp4');


step('The ledger balances');
show('SELECT entry, job_id, amount FROM vidgen.ledger ORDER BY job_id, entry');
my ($balance, $holds, $refunds) = @{ $pg->query(<<SQL)->[0] };
SELECT balance,
    (SELECT sum(amount) FROM vidgen.ledger WHERE entry = 'hold'),
    (SELECT sum(amount) FROM vidgen.ledger WHERE entry = 'refund')
FROM user_credits WHERE user_id = '$user'
SQL
print "\n  10 credits - $holds held + $refunds refunded"
    . " = $balance in the account\n";
expect($balance == 10 - $holds + $refunds && $balance == 5,
    'the ledger balances');

stay_in_background() if $parent;
print "\nDone; everything that was started is stopped and removed.\n";


# ---- narration -------------------------------------------------------------

sub step { printf "\n== %d. %s\n\n", ++$step, $_[0] }

sub say_that { print "\n$_[0]\n" }

sub expect {
    my ($true, $what) = @_;
    die "\nThe demonstration FAILED: not so: $what\n" unless $true;
}

sub eventually {
    my ($true, $what) = @_;
    expect(wait_for(\&$true, 20), $what);
}

# The job of that answer is completed, sooner or later, with that video.
sub expect_video {
    my ($answer, $url) = @_;
    eventually(sub { $pg->value("SELECT status FROM video_jobs
        WHERE id = '$answer->{job_id}'") eq 'completed' }, 'it is completed');
    my $shown = curl(200, 'GET', "$base/video-jobs/$answer->{job_id}");
    expect($shown->{video_url} eq $url, 'the video is that of the provider');
}

sub alerts {
    return map { $json->decode($_->{body})->{text} } @{ $telegram->requests };
}

# What Telegram was asked to show, without its markup.
sub show_alert {
    my ($n, $expected) = @_;
    my $text = (alerts())[$n] =~ s/<[^>]+>//gr;
    expect($text =~ $expected, 'that is the message');
    say_that('On Telegram:');
    print "  $text\n" =~ s/\n(?=.)/\n  /gr;
}

sub sql {
    my ($statement) = @_;
    print "  $statement;\n";
    $pg->query($statement);
}

# The rows of a query, each column on a line of its own if there is one row.
sub show {
    my ($query) = @_;

    my $rows = $pg->query("SELECT row_to_json(q)::text FROM ($query) q");
    if (@$rows > 1) {
        print map { "  $_->[0]\n" } @$rows;
        return;
    }
    $rows = $pg->query("SELECT e.key, e.value FROM ($query) q,
        json_each_text(row_to_json(q)) e");
    printf "  %-18s %s\n", $_->[0], $_->[1] // '-' for @$rows;
}


my $last_headers;
sub last_headers { $last_headers }

# The command for a request as one would type it.
sub curl_line {
    my ($method, $url, $headers, $body) = @_;

    my @parts = ("curl -si '$url'");
    push @parts, "-H '$_: $headers->{$_}'" for sort keys %{ $headers // {} };
    push @parts, "-d '$body'" if defined $body;
    return join " \\\n    ", @parts;
}

# Types it, shows the answer, and returns the data of its body.
sub curl {
    my ($expected, @request) = @_;

    my $line = curl_line(@request);
    print "\$ $line\n";
    my $text = `$line` =~ s/\r//gr;
    print map { $_ eq '' ? "\n" : "  $_\n" } split /\n/, $text;

    ($last_headers, my $answer) = split /\n\n/, $text, 2;
    my ($status) = $text =~ /^HTTP\S+ (\d+)/;
    expect(($status // 0) == $expected, "the status is $expected");
    return $json->decode($answer);
}


# ---- KEEP=1 ----------------------------------------------------------------

# The demonstration runs in a child; this process ends when the child has
# shown everything, or has died.  Returns the pipe to it, in the child.
sub go_to_background {
    pipe my $from, my $to or die "pipe: $!";
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        close $from;
        setsid;
        return $to;
    }

    close $to;
    local @SIG{qw(INT TERM HUP)} = (sub { kill 'TERM', $pid }) x 3;
    my $done;
    1 until defined sysread($from, $done, 1);
    POSIX::_exit(0) if $done;
    waitpid $pid, 0;
    POSIX::_exit($? >> 8 || 1);
}

sub stay_in_background {

    # webhooks come by themselves from now on
    $provider->forget;
    $provider->answer(webhook => { delay => 2 });

    my $generate = curl_line(@generate[0, 1],
        { 'Content-Type' => 'application/json' }, $json->encode(\%order));
    my $psql = "psql '" . $pg->conninfo . "'";
    my $log = $nginx->prefix . '/error.log';

    print <<EOT;

It is still running.  A generation, completed by the provider's own webhook
two seconds later, and its job (put in the job_id):

$generate

curl -s $base/video-jobs/JOB_ID

The database:         $psql
The log of nginx:     $log
Its configuration:    @{[$nginx->prefix]}/nginx.conf

Stop it, and remove all that it made, with:  kill $$
EOT

    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>&', \*STDOUT;
    syswrite $parent, '.';
    close $parent;
    sleep 3600 while 1;
}
