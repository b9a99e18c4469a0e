#!/usr/bin/perl

# PostgreSQL does not answer in time, and it is not known what it has done:
# the client is told so, no provider is asked on the strength of it, the call
# comes to its end later, and the same Idempotency-Key then finds what is true.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 55;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post send_request wait_answer);
use VidgenTest::Jobs qw(attempts job last_job);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my %standin = map { $_ => VidgenTest::Provider->new(prefix => $_) } qw(a b);

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'timeout=2s',
    standins => \%standin,
    server   => 'vidgen_prefer a; vidgen_retry attempts=1;')->start;

my $user = customer($pg, 100);
my $balance = 100;
my $n = 0;                          # keys so far


sub body { qq({"user_id":"$user","model_id":"m","prompt":"p"}) }

# A generation with a new key, of which the provider's answer waits.
sub begin {
    my (%answer) = @_;

    $n++;
    $_->forget for values %standin;
    $standin{a}->next(%answer, wait => 1);
    my $call = send_request('POST', $nginx->url('/generate-video'),
        { 'Idempotency-Key' => "key $n" }, body());
    $standin{a}->wait_requests(1) or die 'no request';
    return $call;
}

# The provider answers while PostgreSQL's answers are lost.
sub answered {
    my ($call) = @_;
    $proxy->hold;
    $standin{a}->release;
    return wait_answer($call);
}

# PostgreSQL answers again: what waited, or (lost) what is sent once more.
sub back {
    my ($lost) = @_;
    $proxy->drop if $lost;
    $proxy->release;
    wait_for { get($nginx->url("/jobs/$user"))->{status} == 404 }
        or die 'no database';
}

sub again {
    my $answer = post($nginx->url('/generate-video'), body(),
        { 'Idempotency-Key' => "key $n" });
    my $replay = $answer->{headers}{'x-idempotent-replay'};
    return join ' ', $answer->{status}, $answer->{json}{status}
        // $answer->{json}{code}, $answer->{json}{job_id} // (),
        $replay ? 'replay' : ();
}

sub asked { join ' ', map { scalar @{ $standin{$_}->requests } } qw(a b) }

sub ended {
    my ($job, $status) = @_;
    return wait_for { job($pg, $job) =~ /^$status / };
}


for my $lost (0, 1) {
    my $how = $lost ? 'lost' : 'late';

    # moving on from what the first provider did not take

    my $answer = answered(begin(status => 503));
    my $job = last_job($pg);
    is("$answer->{status} $answer->{json}{code} $answer->{json}{job_id}",
        "504 outcome_unknown $job", "moving on, $how: 504 with the job");
    is(asked(), '1 0', '... the next provider is not asked');
    is(ledger($pg, $job), 'hold 1', '... nothing is said to be given back');
    back($lost);
    ok(ended($job, 'failed'), '... it is given up later');
    is(attempts($pg, $job), 'a refused 503 http_503, b unsent - -',
        '... what was opened is closed again');
    is(asked() . ' ' . ledger($pg, $job), '1 0 hold 1, refund 1',
        '... nobody was asked, the credits are back');
    like(again(), qr/^200 queued (?!$job)/, '... its key may try again');
    is(balance($pg, $user), --$balance, '... and pays for that one');

    # moving on from what it may have

    $answer = answered(begin(status => 502));
    $job = last_job($pg);
    my ($hook) = $standin{a}->requests->[0]{body}
        =~ /"webhook_url":"([^"]+)"/;
    is($answer->{status}, 504, 'moving on from an unknown one: 504');
    back($lost);
    ok(wait_for { attempts($pg, $job)
        eq 'a unknown 502 http_502, b unsent - -' }, '... it is given up');
    is(again(), "202 processing $job", '... its key waits for the result');
    is(balance($pg, $user), --$balance, '... for which the credits are held');
    $standin{a}->send_webhook($hook, id => "found-$n");
    $standin{a}->wait_webhooks(1) or die 'no answer';
    is(again(), "200 completed $job replay", '... and then has it');
    is(asked(), '1 0', '... nobody was asked again');

    # giving up

    $answer = answered(begin(status => 401));
    $job = last_job($pg);
    is("$answer->{status} $answer->{json}{job_id}", "504 $job",
        "giving up, $how: 504 with the job");
    back($lost);
    ok(ended($job, 'failed'), '... it is given up');
    is(ledger($pg, $job), 'hold 1, refund 1', '... the credits are back');
    like(again(), qr/^200 queued (?!$job)/, '... its key may try again');
    $balance--;

    $answer = answered(begin(status => 422));
    $job = last_job($pg);
    is($answer->{status}, 504, 'the content was refused: 504');
    back($lost);
    ok(ended($job, 'failed'), '... it is given up');
    is(again(), "422 provider_refused $job replay",
        '... its key knows the answer');

    # an acceptance

    $answer = answered(begin());
    $job = last_job($pg);
    is("$answer->{status} $answer->{json}{status} $answer->{json}{job_id}",
        "202 processing $job", "an acceptance, $how: 202");
    back($lost);
    ok(wait_for { attempts($pg, $job) eq 'a accepted 200 -' },
        '... it is recorded');
    is(again(), "200 queued $job replay", '... its key knows the answer');
    $balance--;
    is(asked(), '1 0', '... nobody was asked again');
}

# the beginning itself: nobody is asked, and the key may begin again

$n++;
$_->forget for values %standin;
$proxy->hold;
my $answer = post($nginx->url('/generate-video'), body(),
    { 'Idempotency-Key' => "key $n" });
is("$answer->{status} $answer->{json}{code}", '503 unavailable',
    'the beginning: 503');
my $job = last_job($pg);
back(0);
ok(ended($job, 'failed'), '... it is given up');
like(again(), qr/^200 queued (?!$job)/, '... its key may try again');

is_deeply([balance($pg, $user), wrong_books($pg)], [$balance - 1],
    'the books are right');
ok($nginx->quit, 'nothing is left to be done');
