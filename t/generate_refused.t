#!/usr/bin/perl

# One provider that does not take a generation: what the client is told, what
# the attempt was, and whether the credits come back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(get post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;

    vidgen_provider standin {
        base  %%PROVIDER%%;

        submit {
            url     $vidgen_base/new;
            job_id  /request_id;
            error   /detail;
            refuse  /refused;
            retry   /busy 1;
            accept  /code 0;
        }
    }

    vidgen_provider nobody {
        base  http://127.0.0.1:%%PORT_NOBODY%%;

        submit {
            url     $vidgen_base/new;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /standin { vidgen_generate standin; }
        location = /hasty   { vidgen_generate standin;
                              vidgen_attempt_timeout 1s; }
        location = /nobody  { vidgen_generate nobody; }
        location /jobs/     { vidgen_job; }
    }
}
EOT

my $refused = 'the provider refused the request';
my $failed = 'no provider accepted the request';
my $busy = 'no provider is available';

# The provider's answer, status of ours, its code and sentence, the attempt:
# state, HTTP status, reason; the location where it is not the usual one.
my @cases = (
    # the content
    [{ status => 400 }, 422, 'provider_refused',
        'stand-in provider says 400', 'refused 400 http_400'],
    [{ status => 413 }, 422, 'provider_refused',
        'stand-in provider says 413', 'refused 413 http_413'],
    [{ status => 415 }, 422, 'provider_refused',
        'stand-in provider says 415', 'refused 415 http_415'],
    [{ status => 422 }, 422, 'provider_refused',
        'stand-in provider says 422', 'refused 422 http_422'],
    [{ status => 451 }, 422, 'provider_refused',
        'stand-in provider says 451', 'refused 451 http_451'],
    [{ status => 422, body => '<p>no</p>' }, 422, 'provider_refused',
        $refused, 'refused 422 http_422'],
    [{ status => 422, body => { detail => [{ msg => 'x' }] } }, 422,
        'provider_refused', $refused, 'refused 422 http_422'],
    [{ status => 422, body => '' }, 422, 'provider_refused', $refused,
        'refused 422 http_422'],
    [{ body => { refused => 'nudity', detail => 'not "that"' } }, 422,
        'provider_refused', 'not "that"', 'refused 200 http_422'],

    # us
    [{ status => 401 }, 502, 'provider_failed', $failed,
        'refused 401 http_401'],
    [{ status => 402 }, 502, 'provider_failed', $failed,
        'refused 402 http_402'],
    [{ status => 403 }, 502, 'provider_failed', $failed,
        'refused 403 http_403'],
    [{ status => 404 }, 502, 'provider_failed', $failed,
        'refused 404 http_404'],
    [{ status => 409 }, 502, 'provider_failed', $failed,
        'refused 409 http_409'],
    [{ status => 302, headers => { Location => 'http://127.0.0.1:1/' } },
        502, 'provider_failed', $failed, 'refused 302 http_302'],

    # anything at all
    [{ status => 500 }, 502, 'provider_failed', $failed,
        'refused 500 http_500'],
    [{ status => 501 }, 502, 'provider_failed', $failed,
        'refused 501 http_501'],
    [{ status => 503 }, 502, 'provider_failed', $failed,
        'refused 503 http_503'],
    [{ body => { busy => 1 } }, 502, 'provider_failed', $failed,
        'refused 200 http_503'],

    # perhaps it has it: the credits stay held
    [{ status => 408 }, 202, '', '', 'unknown 408 http_408'],
    [{ status => 502 }, 202, '', '', 'unknown 502 http_502'],
    [{ status => 504 }, 202, '', '', 'unknown 504 http_504'],
    [{ status => 524 }, 202, '', '', 'unknown 524 http_524'],
    [{ drop => 'after' }, 202, '', '', 'unknown - reset'],
    [{ drop => 'middle' }, 202, '', '', 'unknown 200 invalid_answer'],
    [{ hang => 1 }, 202, '', '', 'unknown - timeout', '/hasty'],
    [{ body => { code => 0 } }, 202, '', '', 'unknown 200 invalid_answer'],
    [{ body => { request_id => 'a' } }, 202, '', '',
        'unknown 200 invalid_answer'],
    [{ body => { request_id => 'a' x 256, code => 0 } }, 202, '', '',
        'unknown 200 invalid_answer'],
    [{ body => { request_id => "a\nb", code => 0 } }, 202, '', '',
        'unknown 200 invalid_answer'],
    [{ body => { request_id => { a => 1 }, code => 0 } }, 202, '', '',
        'unknown 200 invalid_answer'],
    [{ body => '{"code":0,"request_id":"a"' }, 202, '', '',
        'unknown 200 invalid_answer'],
    [{ body => '' }, 202, '', '', 'unknown 200 invalid_answer'],
    [{ status => 204, body => '' }, 202, '', '',
        'unknown 204 invalid_answer'],
);

plan tests => 4 * @cases + 22;

my $user = customer($pg, 1000);
my %order = (user_id => $user, model_id => 'vision-1', prompt => 'p');
my $balance = 1000;

for my $case (@cases) {
    my ($answers, $status, $code, $error, $attempt, $location) = @$case;
    my $name = $attempt;

    # a provider that fails several times in a row would not be asked any more

    $provider->next(body => { code => 0, request_id => "good-$balance" });
    post($nginx->url('/standin'), \%order)->{status} == 200
        or die 'not accepted';
    $balance--;

    $provider->next(%$answers);
    my $answer = post($nginx->url($location // '/standin'), \%order);
    my $job = $answer->{json}{job_id};

    my $body = $status == 202
        ? qq({"job_id":"$job","provider":"standin","status":"processing"})
        : '{"error":"' . ($error =~ s/"/\\"/gr) . qq(","code":"$code",)
            . qq("job_id":"$job"});
    is("$answer->{status} $answer->{body}", "$status $body", $name);

    is($pg->value("SELECT state || ' ' || coalesce(http_status::text, '-')
        || ' ' || reason FROM vidgen.attempts WHERE job_id = '$job'"),
        $attempt, "$name: the attempt");
    is($pg->value("SELECT status FROM video_jobs WHERE id = '$job'") . ', '
        . ledger($pg, $job),
        $status == 202 ? 'processing, hold 1' : 'failed, hold 1, refund 1',
        "$name: the job and its credits");

    $balance-- if $status == 202;
    is(balance($pg, $user), $balance, "$name: the balance");
}

is(@{ $provider->requests }, 2 * @cases, 'it was asked once for each');

# nobody there: not a byte was sent

my $answer = post($nginx->url('/nobody'), \%order);
my $job = $answer->{json}{job_id};
is("$answer->{status} $answer->{json}{code}", '502 provider_failed',
    'nobody listens');
is($pg->value("SELECT state || ' ' || coalesce(http_status::text, '-') || ' '
    || reason FROM vidgen.attempts WHERE job_id = '$job'"),
    'unsent - connect', 'the attempt');
is(ledger($pg, $job), 'hold 1, refund 1', 'the credits come back');
is(get($nginx->url("/jobs/$job"))->{json}{status}, 'failed', 'the job');

# a refund that its function refuses: that the credits are back is not said

my $refund = $pg->value("SELECT pg_get_functiondef(
    'vidgen.refund_credits(uuid, integer, uuid)'::regprocedure)");
$pg->query(<<'SQL');
CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
    p_amount integer, p_job uuid)
RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'closed for the day'; END $$
SQL

for my $location (qw(/nobody /standin)) {
    $provider->next(status => 422) if $location eq '/standin';
    my $got = post($nginx->url($location), \%order);
    $job = $got->{json}{job_id};
    is("$got->{status} $got->{json}{code}", '504 outcome_unknown',
        "$location, and no refund");
    is(get($nginx->url("/jobs/$job"))->{json}{status}, 'failed',
        'the job of that id has failed');
    like($nginx->error_log,
        qr/\[crit\].*"$job" failed and its refund is due: .*closed/,
        'it is logged');
}

is(balance($pg, $user), $balance - 2, 'the credits are not back');

$pg->query($refund);
$pg->query("SELECT * FROM vidgen.sweep('1 hour', '1 day', 100)");
is(balance($pg, $user), $balance, 'until the sweep gets them back');

# too many requests: nothing is asked of it until the pause is over

my $asked = @{ $provider->requests };
$provider->next(status => 429, headers => { 'Retry-After' => 40 });
$answer = post($nginx->url('/standin'), \%order);
$job = $answer->{json}{job_id};
is("$answer->{status} $answer->{json}{code} $answer->{json}{error}",
    "503 no_provider $busy", 'too many requests');
ok($answer->{headers}{'retry-after'} > 0
    && $answer->{headers}{'retry-after'} <= 60, 'when to come again');
is($pg->value("SELECT state || ' ' || http_status || ' ' || reason
    FROM vidgen.attempts WHERE job_id = '$job'"),
    'refused 429 http_429', 'the attempt');
is(ledger($pg, $job), 'hold 1, refund 1', 'the credits come back');

my $jobs = $pg->value('SELECT count(*) FROM video_jobs');
$answer = post($nginx->url('/standin'), \%order);
is("$answer->{status} $answer->{json}{code}", '503 no_provider', 'again');
ok($answer->{headers}{'retry-after'} > 0
    && $answer->{headers}{'retry-after'} <= 40, 'when to come again');
is(@{ $provider->requests }, $asked + 1, 'it was not asked again');
is($pg->value('SELECT count(*) FROM video_jobs'), $jobs, 'no job was made');

is_deeply([wrong_books($pg)], [], 'the books are right');
