#!/usr/bin/perl

# The ids that providers give: two of them may use the same one, for two jobs
# or for one; but one that gives it twice cannot be believed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 34;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get many post);
use VidgenTest::Jobs qw(attempts sweep);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    workers  => 2,
    standins => { map { $_ => [$standin, "secret-of-$_"] } qw(a b) },
    server   => 'vidgen_prefer $arg_p;')->start;

my $user = customer($pg, 100);
my %hook;

# A generation that the providers answer with these ids, in order; an id undef
# stands for a gateway's 504.
sub generate {
    my ($prefer, @ids) = @_;
    $standin->forget;
    $standin->next(defined $_ ? (body => { request_id => $_ })
        : (status => 504)) for @ids;
    my $answer = post($nginx->url("/generate-video?p=$prefer"), { user_id =>
        $user, model_id => 'm', prompt => 'p' });
    for my $request (@{ $standin->requests }) {
        $hook{ substr $request->{uri}, 1 } = $1
            if $request->{body} =~ /"webhook_url":"([^"]+)"/;
    }
    return $answer;
}

sub webhook {
    my ($provider, $url, %args) = @_;
    my ($headers, $body) = $standin->signed_webhook(%args,
        secret => "secret-of-$provider");
    my $got = post($url, $body, $headers);
    return join ' ', $got->{status}, $got->{json}{job_id}
        // $got->{json}{code};
}

sub shown {
    my ($job) = @_;
    my $shown = get($nginx->url("/jobs/$job"))->{json};
    return "$shown->{status} $shown->{provider}";
}


# two jobs at two providers

my $first = generate('a', 'same-1')->{json}{job_id};
my $second = generate('b', 'same-1')->{json}{job_id};
isnt($first, $second, 'two jobs');

my $by_id = $nginx->url('/video-webhook?provider=');
is(webhook('b', "${by_id}b", id => 'same-1'), "200 $second",
    'the result of the second');
is(shown($second), 'completed b', 'it is completed');
is(shown($first), 'queued a', 'the other one is open');
is(webhook('a', "${by_id}b", id => 'same-1', status => 'failed'),
    '401 bad_signature', 'each with its own signature');
is(webhook('a', "${by_id}a", id => 'same-1', status => 'failed'),
    "200 $first", 'the result of the first');
is(shown($first), 'failed a', 'it has failed');
is(shown($second), 'completed b', 'the other one stays completed');
is(ledger($pg, $first) . '; ' . ledger($pg, $second),
    'hold 1, refund 1; hold 1', 'one is paid');

# one job at two providers

my $answer = generate('a', undef, 'same-2');
my $job = $answer->{json}{job_id};
is("$answer->{status} $answer->{json}{provider}", '200 b',
    'a job that both have');
is(webhook('a', $hook{a}, id => 'same-2', status => 'failed'), "200 $job",
    'the first one fails, under the same id');
is(shown($job), 'queued b', 'the job is open');
is(webhook('b', "${by_id}b", id => 'same-2'), "200 $job",
    'the second one succeeds');
is(shown($job), 'completed b', 'the job is completed');
is(ledger($pg, $job), 'hold 1', 'and paid');

# one provider, twice

$first = generate('a', 'same-3')->{json}{job_id};
$answer = generate('a', 'same-3');
$second = $answer->{json}{job_id};
is($answer->{body}, qq({"job_id":"$second","provider":"a",)
    . qq("status":"processing"}), 'an id that it gave before: not accepted');
is($answer->{status}, 202, 'but it may have it');
is(attempts($pg, $second), 'a unknown 200 invalid_answer', 'it is unknown');
is($pg->value("SELECT error FROM vidgen.attempts WHERE job_id = '$second'"),
    "the provider's job id is another attempt's", 'and why');
is(webhook('a', $hook{a}, id => 'same-3'), '401 wrong_job',
    'that id does not belong to its URL');
is(webhook('a', "${by_id}a", id => 'same-3'), "200 $first",
    'it is the first one');
is(shown($first) . ', ' . shown($second), 'completed a, processing a',
    'the jobs');
is(webhook('a', $hook{a}, id => 'other-3'), "200 $second",
    'under an id of its own it is completed');
is(shown($second), 'completed a', 'the job');

generate('a', 'same-4');
$second = generate('a', 'same-4')->{json}{job_id};
is(balance($pg, $user), 100 - 6, 'all are held');
sweep($pg, $second, '1 hour');
is(shown($second), 'failed a', 'what nothing explains ends');
is(balance($pg, $user), 100 - 5, 'and its credits are back');

# at the same time

$standin->forget;
$standin->answer(body => { request_id => 'same-5' });
my @answers = many(8, 'POST', $nginx->url('/generate-video?p=a'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));
is(join(' ', sort map { $_->{status} } @answers),
    '200 202 202 202 202 202 202 202', 'eight at once: it is one of them');
is($pg->value("SELECT count(*) FROM vidgen.attempts
    WHERE provider_job_id = 'same-5'"), 1, 'in the database too');
my ($accepted) = map { $_->{json}{job_id} } grep { $_->{status} == 200 }
    @answers;
is(webhook('a', "${by_id}a", id => 'same-5'), "200 $accepted", 'its result');
is($pg->value("SELECT count(*) FROM video_jobs WHERE status = 'processing'"),
    7, 'the others wait for theirs');
sweep($pg, $_, '1 hour') for map { $_->{json}{job_id} } @answers;
is(balance($pg, $user), 100 - 6, 'which does not come');

is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->deadlocks, 0, 'no deadlock');
