#!/usr/bin/perl

# The client leaves in the middle of a generation, over HTTP/1 and HTTP/2:
# what has been begun comes to its end all the same, and nothing more is begun.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Http qw(get leave post send_request);
use VidgenTest::Http2;
use VidgenTest::Nginx;
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $alpha = VidgenTest::Provider->new(prefix => 'alpha');
my $beta = VidgenTest::Provider->new(prefix => 'beta');

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $proxy->conninfo, ALPHA => $alpha->url,
        BETA => $beta->url },
    env  => { TEST_SECRET => 'webhook-secret' },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 1;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=20s;

    vidgen_provider alpha {
        base %%ALPHA%%;
        submit {
            url     $vidgen_base/submit;
            body    /webhook_url $vidgen_webhook_url;
            job_id  /request_id;
        }
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:TEST_SECRET;
            job_id     /request_id;
            status     /status;
            video_url  /output/video_url;
        }
    }
    vidgen_provider beta {
        base %%BETA%%;
        submit {
            url     $vidgen_base/submit;
            job_id  /request_id;
        }
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:TEST_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    vidgen_attempt_timeout        60s;
    vidgen_next_provider_timeout  60s;
    vidgen_retry                  backoff=6s max=6s;
    vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
    proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        include %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook { vidgen_webhook; }
        location = /status { stub_status; }
    }
}
EOT

# How a client comes, how it leaves, and whether nginx can notice before it
# answers: over HTTP/1 it cannot.  The connection that has another stream on it
# goes on.
my @clients = (
    ['HTTP/1, closed', sub { send_request(@_) }, sub { leave($_[0]) }, 0],
    ['HTTP/1, reset', sub { send_request(@_) }, sub { leave($_[0], 1) }, 0],
    ['HTTP/2, RST_STREAM', \&http2, sub {
        $_[0]->cancel;
        die 'no connection' if $_[0]->status('GET', '/status') != 200;
    }, 1],
    ['HTTP/2, closed', \&http2, sub { $_[0]->close }, 1],
);

# A generation that is accepted: what the job says, its attempts, the requests
# that the providers got, the balance.
my $accepted = 'queued 1; alpha accepted; 1 0; 9';

plan tests => 11 * @clients + 1;

my $user;

sub http2 {
    my ($method, $url, $headers, $body) = @_;
    return VidgenTest::Http2->new($nginx->url('', 'H2'))->begin($method,
        '/generate-video', { %$headers, 'content-length' => length $body },
        $body);
}

# What became of the only job of the user.
sub ended {
    my $rows = $pg->query("SELECT j.status, j.provider_attempts,
            string_agg(a.provider || ' ' || a.state, ', ' ORDER BY a.number)
        FROM video_jobs j JOIN vidgen.attempts a ON a.job_id = j.id
        WHERE j.user_id = '$user' GROUP BY j.id");
    my ($job) = map { "$_->[0] $_->[1]; $_->[2]" } @$rows;
    my $asked = join ' ', map { scalar @{ $_->requests } } $alpha, $beta;
    return join '; ', $job // 'none', $asked, balance($pg, $user);
}

# Waits until nginx has read $n requests that it has not answered.
sub wait_open {
    my ($n) = @_;
    $n++;                           # and the question itself
    return wait_for {
        get($nginx->url('/status'))->{body} =~ /Writing: $n /;
    };
}

# Both providers work, for all that nginx knows.
sub heal {
    my $user = customer($pg, 2);
    for my $name ('alpha', 'beta') {
        my $answer = post($nginx->url('/generate-video'), { user_id => $user,
            model_id => 'm', prompt => 'p', provider => $name });
        die "$answer->{status} $answer->{body}" if $answer->{status} != 200;
    }
}

# By now nginx has read all that was sent before.
sub settle { get($nginx->url('/status')) for 1 .. 2 }

for my $client (@clients) {
    my ($name, $come, $leave, $noticed) = @$client;

    my $generate = sub {
        my (@answer) = @_;
        $user = customer($pg, 10);
        $_->forget for $alpha, $beta;
        $alpha->next(@answer) if @answer;
        return $come->('POST', $nginx->url('/generate-video'),
            { 'Content-Type' => 'application/json' },
            qq({"user_id":"$user","model_id":"m","prompt":"p",)
            . '"provider":"alpha"}');
    };

    my $ends = sub {
        my ($expected, $when) = @_;
        wait_for { ended() eq $expected };
        is(ended(), $expected, "$name, $when");
    };

    # Leaves while alpha thinks about an answer.
    my $leaves_before = sub {
        my (@answer) = @_;
        my $call = $generate->(wait => 1, @answer);
        $alpha->wait_requests(1);
        $leave->($call);
        settle();
        $alpha->release;
    };

    # while begin is waited for

    $proxy->hold('both');
    my $call = $generate->();
    wait_open(1);
    $leave->($call);
    settle();
    $proxy->release;
    $ends->($noticed ? 'failed 1; alpha unsent; 0 0; 10' : $accepted,
        'during begin');

    # while a provider thinks

    $leaves_before->();
    $ends->($accepted, 'before an acceptance: it is recorded');

    my $request = $alpha->requests->[0];
    my ($hook) = $request->{body} =~ /"(http:[^"]+)"/;
    $alpha->send_webhook($hook, id => $request->{id});
    is($alpha->wait_webhooks(1)->[0]{status}, 200, "$name: its webhook");
    is(ended() =~ s/;.*//r, 'completed 1', "$name: completes the job");

    $leaves_before->(status => 422);
    $ends->('failed 1; alpha refused; 1 0; 10',
        'before a refusal: credits are back');

    $leaves_before->(status => 503);
    $ends->($noticed ? 'failed 1; alpha refused; 1 0; 10'
        : 'queued 2; alpha refused, beta accepted; 1 1; 9',
        'before a failure');
    heal();

    $leaves_before->(drop => 'after');
    $ends->($noticed ? 'processing 1; alpha unknown; 1 0; 9'
        : 'processing 2; alpha unknown, beta accepted; 1 1; 9',
        'before it is cut: credits stay held');
    heal();

    # in the pause before the next round

    $call = $generate->(status => 503, wait => 1);
    $beta->next(status => 503);
    $alpha->wait_requests(1);
    $alpha->release;
    $beta->wait_requests(1);
    settle();
    $leave->($call);
    $ends->($noticed ? 'failed 2; alpha refused, beta refused; 1 1; 10'
        : 'queued 3; alpha refused, beta refused, alpha accepted; 2 1; 9',
        'between two rounds');
    heal();

    # while the acceptance is recorded

    $call = $generate->(wait => 1);
    $alpha->wait_requests(1);
    $proxy->hold('both');
    $alpha->release;
    $alpha->requests;               # by now the answer has left
    settle();
    $leave->($call);
    settle();
    is(ended(), 'queued 1; alpha sending; 1 0; 9', "$name, during submitted");
    $proxy->release;
    $ends->($accepted, 'during submitted: it is recorded');

    ok(wait_open(0), "$name: nothing is left of it");
}

is_deeply([wrong_books($pg)], [], 'the books are right');
