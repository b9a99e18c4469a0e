#!/usr/bin/perl

# Not under valgrind: it replaces the binary
#
# The binary is replaced while the monitor works, and once the new one is sent
# away again: each master has one monitor, its secrets are there, jobs are
# polled to their end, and an outage is told once, whoever sees it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use POSIX ();
use Test::More tests => 46;
use Time::HiRes qw(sleep);

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(alive append slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my ($provider, $telegram) = map { VidgenTest::Provider->new } 1, 2;
my $user = customer($pg, 1000);
my $json = JSON::PP->new->utf8;
my $token = '123:the-secret-token';

$telegram->answer(status => 200, body => { ok => JSON::PP::true });
$provider->on(qr{/probe}, status => 200);
$provider->on(qr{GET /requests/}, body => { status => 'processing' });

my $nginx = VidgenTest::Nginx->new(
    daemon => 1,
    vars => { BASE => $provider->url, TELEGRAM => $telegram->url },
    env  => {
        DATABASE_URL => $pg->edge_conninfo,
        ONE_API_KEY  => 'the-api-key',
        BOT_TOKEN    => $token,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_database env:DATABASE_URL;
    vidgen_monitor  interval=200ms timeout=3s fails=2 poll=200ms;
    vidgen_alert    telegram token=env:BOT_TOKEN chat=1 url=%%TELEGRAM%%
                    every=0;

    vidgen_provider one {
        base    %%BASE%%;
        api_key env:ONE_API_KEY;
        header  X-API-Key $vidgen_api_key;
        submit  { url $vidgen_base/one; job_id /request_id; }
        poll    { url $vidgen_base/requests/$vidgen_provider_job_id;
                  status /status; video_url /url; }
        probe   { url $vidgen_base/probe; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /health         { vidgen_health; }
    }
}
EOT

my $watch = watch();
my @told;                           # what was to be told so far

ok($provider->wait_requests(2), 'the monitor is at work');


# upgraded: two masters for a while, then the new one alone

my $first = $nginx->pid;
orders(20);
outage();
is($nginx->begin_upgrade, $first, 'a new binary');
my $second = $nginx->pid;
both_work($first, $second);
recovery();
orders(20);
outage();

ok($nginx->leave($first), 'the old one is sent away');
ok((wait_for { !monitors($first) }), 'and so is its monitor');
is(monitors($second), 1, 'one is left');
works('in the new one');
recovery();
outage();


# once more, and back to what was there

my $third = do { $nginx->begin_upgrade; $nginx->pid };
both_work($second, $third);
recovery();
orders(20);
sleep 8;        # until both know that it was told: 5 s after they asked

kill 'WINCH', $second;
ok((wait_for { !monitors($second) }), 'no work for the old one');
outage();
is($nginx->resume($second), $third, 'but now there is');
both_work($second, $third);
ok($nginx->leave($third), 'the new one is sent away');
ok((wait_for { !monitors($third) }), 'and so is its monitor');
is(monitors($second), 1, 'one is left');
works('in the old one');
recovery();

unlink "$watch->{file}.on";
waitpid $watch->{pid}, 0;
is(join("\n", grep { /^(?:$first|$second|$third):/ }
    split /\n/, slurp($watch->{file})), '', 'no master ever had two');

ok($nginx->reload(wait => 1), 'it reloads');
is(monitors($second), 1, 'and has one');


# back without a WINCH: nginx starts a second set of all, the latest one works

my $fourth = do { $nginx->begin_upgrade; $nginx->pid };
$nginx->resume($second);
ok($nginx->wait_log(qr/\[notice\].*another process is the monitor now/),
    'of two monitors one rests');
ok($nginx->leave($fourth), 'the new one is sent away');
works('the other');
$provider->forget_requests;
my @probes;                         # of two it would take half the time
wait_for {
    @probes = grep { $_->{uri} eq '/probe' } @{ $provider->requests };
    @probes >= 10;
};
cmp_ok($probes[9]{time} - $probes[0]{time}, '>', 1.3, 'only that');
ok($nginx->reload(wait => 1), 'a reload');
is(monitors($second), 1, 'leaves one');
works('the last one');


# what came of it

$provider->on(qr{GET /requests/}, body => { status => 'completed',
    url => 'https://cdn.test/v.mp4' });
due();
ok((wait_for { $pg->value("SELECT count(*) FROM video_jobs
    WHERE status <> 'completed'") == 0 } 60), 'every job has ended')
    or diag(explain($pg->query('SELECT state, polls, due, now()
        FROM vidgen.attempts WHERE state <> \'completed\'')));
is($pg->value('SELECT count(*) FROM video_jobs'), 60, 'all of them');
is_deeply([wrong_books($pg)], [], 'the books are right');

outage();
recovery();

is(scalar(grep { ($_->{headers}{'x-api-key'} // '') ne 'the-api-key' }
    @{ $provider->requests }), 0, 'each request had the key');
is(scalar(grep { $_->{uri} ne "/bot$token/sendMessage" }
    @{ $telegram->requests }), 0, 'and each message the token');


sub monitors {
    my ($master) = @_;
    return grep { $_->{title} =~ /monitor/ } $nginx->processes($master);
}

sub orders {
    my ($n) = @_;
    my @answers = many($n, 'POST', $nginx->url('/generate-video'),
        { 'Content-Type' => 'application/json' },
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
    die "vidgen test: refused\n" if grep { $_->{status} != 200 } @answers;
}

sub both_work {
    my (@masters) = @_;
    for my $master (@masters) {
        ok((wait_for { monitors($master) == 1 }), 'each master has one');
    }
    works('both');
}

sub works {
    my ($what) = @_;
    due();
    $provider->forget_requests;
    ok((wait_for {
        my @uris = map { $_->{uri} } @{ $provider->requests };
        (grep { $_ eq '/probe' } @uris) > 4 && grep { m{^/requests/} } @uris;
    }), "$what: it probes and polls");
}

# Open jobs are to be polled now, as if they never had been.
sub due {
    $pg->query("UPDATE vidgen.attempts SET due = now(), polls = 0,
        poll_lease = NULL WHERE state = 'accepted'");
}

sub outage   { told('Down', 503) }
sub recovery { told('Recovered', 200) }

# All there is to be told is, once, and noted.
sub told {
    my ($what, $status) = @_;
    push @told, $what;
    $provider->on(qr{/probe}, status => $status);
    wait_for { messages() >= @told };
    wait_for { $pg->value('SELECT announced IS NOT NULL FROM vidgen.alerts
        WHERE provider = \'one\'') eq 't' };
    $provider->forget_requests;
    wait_for { (grep { $_->{uri} eq '/probe' } @{ $provider->requests }) > 5 };
    is_deeply([messages()], \@told, "told: $what");
}

sub messages {
    return map { $json->decode($_->{body})->{text} =~ /<b>Provider (\w+)/ }
        @{ $telegram->requests };
}

# Looks all the time for masters with two monitors; other nginx may be there.
sub watch {
    my $file = $nginx->prefix . '/watch';
    append($_, '') for $file, "$file.on";
    my $pid = fork // die "fork: $!";
    return { pid => $pid, file => $file } if $pid;
    while (-e "$file.on") {
        my %of;
        for my $stat (glob '/proc/[0-9]*/stat') {
            my ($pid, $state, $ppid) = (slurp($stat) // '')
                =~ /^(\d+) \(nginx\) (\S) (\d+)/ or next;
            next if $state eq 'Z';
            $of{$ppid}++ if (slurp("/proc/$pid/cmdline") // '') =~ /monitor/;
        }
        append($file, "$_: $of{$_}\n") for grep { $of{$_} > 1 } keys %of;
        sleep 0.02;
    }
    POSIX::_exit(0);
}
