#!/usr/bin/perl

# Not under valgrind: it measures time
#
# notify=on: jobs that the monitor changes, by a poll or by giving them up,
# are told on the channel vidgen_job, once for each change.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 10;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 100);

$provider->on(qr{GET /requests/}, body => { status => 'queued' });

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" notify=on;
    vidgen_monitor  interval=1h poll=200ms unknown=5s;

    vidgen_provider one {
        submit  { url %%BASE%%/one; job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /hasty { vidgen_generate; vidgen_attempt_timeout 300ms; }
    }
}
EOT

my $listener = VidgenTest::Session->new($pg);
$listener->run('LISTEN vidgen_job');


# polls

my $job = order(200);
polled(3);
is_deeply([heard()], [], 'a poll that finds nothing new is not told');

$provider->on(qr{GET /requests/}, body => { status => 'processing' });
is_deeply([heard($job)], [$job], 'progress is');
polled(3);
is_deeply([heard()], [], 'once');

$provider->on(qr{GET /requests/}, body => { status => 'completed',
    url => 'https://cdn.test/v.mp4' });
is_deeply([heard($job)], [$job], 'the result is');
is(status($job), 'completed', 'after its commit');


# what is given up: from queued to unknown, then to failed

my @jobs = sort map { order(202, hang => 1) } 1 .. 3;
my $of = "job_id = ANY ('{" . join(',', @jobs) . "}')";

$pg->query("UPDATE vidgen.attempts SET state = 'sending', since = now(),
    lease = now() WHERE $of;
    UPDATE video_jobs SET status = 'queued' WHERE id = ANY ('{"
    . join(',', @jobs) . "}')");
is_deeply([heard(@jobs)], \@jobs, 'attempts that are unknown now');

ok((wait_for { !grep { status($_) ne 'failed' } @jobs }), 'they are lost');
is_deeply([heard(@jobs)], \@jobs, 'which is told as well');

# the sweeps after it change nothing

my $sweeps = sweeps();
wait_for { sweeps() >= $sweeps + 3 };
is_deeply([heard()], [], 'once');

is_deeply([wrong_books($pg)], [], 'the books are right');


sub order {
    my ($status, @next) = @_;
    $provider->next(@next) if @next;
    my $uri = @next ? '/hasty' : '/generate-video';
    my $answer = post($nginx->url($uri), { user_id => $user,
        model_id => 'm', prompt => 'p' });
    die "vidgen test: $answer->{status}\n" if $answer->{status} != $status;
    return $answer->{json}{job_id};
}

sub status {
    my ($job) = @_;
    return $pg->value("SELECT status FROM video_jobs WHERE id = '$job'");
}

# Waits for so many polls.
sub polled {
    my ($n) = @_;
    my $polls = "SELECT polls FROM vidgen.attempts WHERE job_id = '$job'";
    my $before = $pg->value($polls);
    wait_for { $pg->value($polls) >= $before + $n };
}

# Expired keys show how often the sweep has been there.
sub sweeps {
    our $n //= 0;
    $n++ if !$pg->value("SELECT count(*) FROM idempotency_log
        WHERE idempotency_key = 'old'");
    $pg->query("INSERT INTO idempotency_log (idempotency_key, response,
        expires_at) VALUES ('old', '{}', now()) ON CONFLICT DO NOTHING");
    return $n;
}

# The payloads that came since it was asked last, sorted; waits for those.
sub heard {
    my (@wanted) = @_;
    my %seen;
    my @heard;
    wait_for {
        my @new = $listener->run('SELECT 1')
            =~ /notification "vidgen_job" with payload "([^"]+)"/g;
        push @heard, @new;
        $seen{$_} = 1 for @new;
        !grep { !$seen{$_} } @wanted;
    };
    return sort @heard;
}
