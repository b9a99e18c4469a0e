#!/usr/bin/perl

# The first provider does not answer in time, the second accepts; then their
# results come, in any order.  The first success is the job's, the credits come
# back once and only if nothing succeeded, what comes too late is kept.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post);
use VidgenTest::Jobs qw(sweep);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;
use VidgenTest::Util qw(wait_for);

# What comes, in order; "again" is a replay, "an hour" the sweep after it.
# Then the job's status and provider, the states of the attempts of a and b,
# and whether money was lost.
my @cases = (
    [['a failed', 'b completed'], 'completed b', 'failed completed'],
    [['a completed', 'b completed'], 'completed a', 'completed completed*'],
    [['a completed', 'b failed'], 'completed a', 'completed failed'],
    [['a completed'], 'completed a', 'completed accepted'],
    [['b completed'], 'completed b', 'unknown completed'],
    [['b completed', 'a completed'], 'completed b', 'completed* completed'],
    [['b completed', 'a failed'], 'completed b', 'failed completed'],
    [['b failed', 'a completed'], 'completed a', 'completed failed'],

    [['a failed'], 'queued b', 'failed accepted'],
    [['b failed'], 'processing b', 'unknown failed'],
    [['a failed', 'b failed'], 'failed b', 'failed failed'],
    [['b failed', 'a failed'], 'failed a', 'failed failed'],
    [['b failed', 'a failed', 'a completed'], 'failed a',
        'completed* failed'],
    [['b failed', 'a failed', 'b completed', 'a completed'], 'failed a',
        'completed* completed*'],

    [['a failed', 'a completed'], 'completed a', 'completed accepted'],
    [['a failed', 'a completed', 'b completed'], 'completed a',
        'completed completed*'],
    [['b failed', 'b completed'], 'completed b', 'unknown completed'],
    [['b completed', 'b failed'], 'completed b', 'unknown completed'],
    [['a completed', 'a failed', 'b failed'], 'completed a',
        'completed failed'],

    [['a processing'], 'processing b', 'accepted accepted'],
    [['a queued', 'b failed'], 'queued a', 'accepted failed'],
    [['a processing', 'a failed', 'b processing', 'b completed'],
        'completed b', 'failed completed'],
    [['b processing', 'b queued'], 'processing b', 'unknown accepted'],

    [['a failed', 'a failed again', 'b failed', 'b failed again',
        'a failed again'], 'failed b', 'failed failed'],
    [['a completed', 'a completed again', 'b completed',
        'b completed again', 'a completed again'], 'completed a',
        'completed completed*'],

    [['an hour', 'b completed'], 'completed b', 'lost completed'],
    [['an hour', 'b failed'], 'failed b', 'lost failed'],
    [['an hour', 'a completed'], 'completed a', 'completed accepted'],
    [['an hour', 'b failed', 'a completed'], 'failed b',
        'completed* failed'],
    [['b failed', 'an hour'], 'failed a', 'lost failed'],
    [['b failed', 'an hour', 'a failed'], 'failed a', 'failed failed'],
    [['b failed', 'an hour', 'a completed', 'a completed again'],
        'failed a', 'completed* failed'],
);

plan tests => 7 * @cases + 2;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my %standin = map { $_ => VidgenTest::Provider->new } qw(a b);

# a gateway's 504 says no more than a timeout, and sooner
my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    workers  => 2,
    standins => \%standin,
    server   => <<'EOT')->start;
        vidgen_prefer a;

        location = /slow { vidgen_generate; vidgen_attempt_timeout 2s; }
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);
my $balance = 1000;
my $lost = 0;                       # successes that came too late
my (%id, %hook);


# The first comes with a timeout, the others with a gateway's.
sub generate {
    my ($i) = @_;

    # so that it does not go down
    $standin{a}->answer;
    post($nginx->url('/generate-video'), { user_id => customer($db, 1),
        model_id => 'm', prompt => 'p' });

    $standin{a}->next($i ? (status => 504) : (hang => 1));
    my $answer = post($nginx->url($i ? '/generate-video' : '/slow'),
        { user_id => $user, model_id => 'm', prompt => 'p' });

    for my $name (qw(a b)) {
        my $request = $standin{$name}->requests->[-1];
        ($hook{$name}) = $request->{body} =~ /"webhook_url":"([^"]+)"/;
        $id{$name} = $request->{id} // "late-$i";
    }
    return $answer;
}

# Sends a result and returns what is wrong with the answer.
sub result {
    my ($job, $event) = @_;

    if ($event eq 'an hour') {
        sweep($db, $job, '1 hour');
        return;
    }

    my ($name, $status, $again) = split / /, $event;
    my ($headers, $body) = $standin{$name}->signed_webhook(
        id => $id{$name}, status => $status);
    my $got = post($hook{$name}, $body, $headers);
    my $replay = exists $got->{headers}{'x-idempotent-replay'};

    return if $got->{body} eq qq({"success":true,"job_id":"$job"})
        && $replay == !!$again;
    return "$event: $got->{status} $got->{body}" . ($replay && ' replay');
}


for my $i (0 .. $#cases) {
    my ($events, $outcome, $states) = @{ $cases[$i] };
    my $name = join ', ', @$events;
    my ($status, $provider) = split / /, $outcome;

    my $answer = generate($i);
    my $job = $answer->{json}{job_id};
    is("$answer->{status} $answer->{json}{provider}", '200 b',
        "$name: accepted by the second");

    is_deeply([map { result($job, $_) } @$events], [], "$name: each is taken");

    my $shown = get($nginx->url("/jobs/$job"))->{json};
    is("$shown->{status} $shown->{provider}", $outcome, "$name: the job");
    is($shown->{video_url}, $status eq 'completed'
        ? "https://cdn.test/$id{$provider}.mp4" : undef, "$name: its video");
    is($db->value("SELECT string_agg(state || CASE WHEN late THEN '*' ELSE ''
        END, ' ' ORDER BY number) FROM vidgen.attempts
        WHERE job_id = '$job'"), $states, "$name: the attempts");

    $balance-- if $status ne 'failed';
    is(ledger($db, $job), $status eq 'failed' ? 'hold 1, refund 1' : 'hold 1',
        "$name: the ledger");
    is(balance($db, $user), $balance, "$name: the balance");
    $lost += $states =~ tr/*//;
}

my @logged;
wait_for { @logged = $nginx->error_log
    =~ /\[error\] .*vidgen: .* late: .*job/g; @logged >= $lost };
is(@logged, $lost, 'each success that was too late is logged');
is_deeply([wrong_books($db)], [], 'the books are right');
