#!/usr/bin/perl

# max_jobs: a provider never has more open than that, over all workers, and a
# full one is passed over like one that has too many requests.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 24;

use VidgenTest::Books qw(customer everything ledger wrong_books);
use VidgenTest::Http qw(many post send_request wait_answer);
use VidgenTest::Jobs qw(attempts moves);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider first {
        submit { url %%BASE%%/first; job_id /request_id; }
    }
    vidgen_provider two {
        submit { url %%BASE%%/two; job_id /request_id; max_jobs 2; }
    }
    vidgen_provider one {
        submit { url %%BASE%%/one; job_id /request_id; max_jobs 1; }
    }
    vidgen_provider last {
        submit { url %%BASE%%/last; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        vidgen_retry                  backoff=300ms;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /two    { vidgen_generate two; }
        location = /spill  { vidgen_generate two last; }
        location = /one    { vidgen_generate one; }
        location = /moving { vidgen_generate first one;
                             vidgen_prefer first; }
        location = /moving-on { vidgen_generate first one last;
                                vidgen_prefer first; }
    }
}
EOT

my $user = customer($pg, 1000);
my @headers = ({ 'Content-Type' => 'application/json' },
    qq({"user_id":"$user","model_id":"vision-1","prompt":"p"}));
my $answer;

sub ask {
    my ($uri) = @_;
    $answer = post($nginx->url($uri), $headers[1]);
    return "$answer->{status} "
        . ($answer->{json}{provider} // $answer->{json}{code});
}

sub asked {
    my ($name) = @_;
    return scalar grep { $_->{uri} eq "/$name" } @{ $standin->requests };
}

# The job of an answer ends at its provider.
sub end {
    my ($job) = @_;
    $pg->query("UPDATE vidgen.attempts SET state = 'completed'
        WHERE job_id = '$job' AND state = 'accepted'");
    $pg->query("SELECT vidgen.settle('$job')");
}


# when a generation begins

is(ask('/two'), '200 two', 'one');
my $job = $answer->{json}{job_id};
is(ask('/two'), '200 two', 'two');
my $before = everything($pg);
is(ask('/two'), '503 no_provider', 'a third one is one too many');
ok($answer->{headers}{'retry-after'} >= 1, 'when to come again');
is(everything($pg), $before, 'nothing is held');
is(ask('/spill'), '200 last', 'the next one has room');
is(asked('two'), 2, 'the full one was not asked');

end($job);
is(ask('/spill'), '200 two', 'there is room again');

# many at once: never more

my @answers = many(40, 'POST', $nginx->url('/spill'), @headers);
is(join(' ', map { $_->{status} } @answers), join(' ', (200) x 40),
    '40 at once');
is(asked('two'), 3, 'not one of them is one too many');

$standin->forget;
$standin->on(qr{/one$}, wait => 1);
my $call = send_request('POST', $nginx->url('/one'), @headers);
$standin->wait_requests(1) or die 'no request';
@answers = many(7, 'POST', $nginx->url('/one'), @headers);
$standin->release;
push @answers, wait_answer($call);
is(join(' ', sort map { $_->{status} } @answers),
    '200 503 503 503 503 503 503 503', 'while it is being asked it has one');
is(asked('one'), 1, '... and got one');
end($_) for map { $_->{json}{job_id} } grep { $_->{status} == 200 } @answers;

# when a generation moves on: it was free when that began

sub overtaken {
    my ($uri) = @_;

    $standin->forget;
    $standin->script(qr{/first$}, { status => 503, wait => 1 }, {});
    my $call = send_request('POST', $nginx->url($uri), @headers);
    $standin->wait_requests(1) or die 'no request';
    is(ask('/one'), '200 one', 'another one is faster');
    $job = $answer->{json}{job_id};
    $standin->release;
    return wait_answer($call);
}

$answer = overtaken('/moving-on');
my $moved = $answer->{json}{job_id};
is("$answer->{status} $answer->{json}{provider}", '200 last',
    'the one after it is asked');
is(attempts($pg, $moved), 'first refused 503 http_503, last accepted 200 -',
    'the attempts');
is(moves($pg, $moved), 'first last http_503', 'the failover log');
is(asked('one'), 1, 'the full one was not asked');
end($job);

$answer = overtaken('/moving');
is("$answer->{status} $answer->{json}{provider}", '200 first',
    'where there is none, a later round revisits the first');
is(attempts($pg, $answer->{json}{job_id}),
    'first refused 503 http_503, first accepted 200 -', 'the attempts');
is(ledger($pg, $answer->{json}{job_id}), 'hold 1', 'one hold');
end($job);

# a provider's own attempt makes room for its next round

$standin->forget;
$standin->script(qr{/one$}, { status => 503 }, {});
is(ask('/one'), '200 one', 'a round at a provider for one job');
is(attempts($pg, $answer->{json}{job_id}),
    'one refused 503 http_503, one accepted 200 -', 'the attempts');

is_deeply([wrong_books($pg)], [], 'the books are right');
