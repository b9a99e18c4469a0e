#!/usr/bin/perl

# A connection is cut between the commit and its answer: the call is sent
# again on another one, and has one effect.  The same where the call did not
# reach the server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post request);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;

# how a connection is cut, and whether the server has done it by then
my @ways = (
    ['the answer is lost', when => 'after'],
    ['it is lost twice', when => 'after', times => 2],
    ['the call is lost', when => 'before'],
    ['it is cut within the rows', within => 1],
);

# of which statement the rows are
my %rows = (
    vidgen_begin        => qr/attempt_id\0.*\0\x02go/s,
    vidgen_submitted    => qr/\x08recorded/,
    vidgen_apply        => qr/\x07applied/,
    vidgen_next_attempt => qr/outcome\0.{18}status\0.*\0\x02go/s,
    vidgen_abandon      => qr/\x06closed/,
);

plan tests => 12 * @ways + 2;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $alpha = VidgenTest::Provider->new(prefix => 'alpha');
my $beta = VidgenTest::Provider->new(prefix => 'beta');

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'timeout=20s',
    standins => { alpha => $alpha, beta => $beta })->start;

my $user = customer($pg, 100);

sub generate {
    post($nginx->url('/generate-video'),
        { user_id => $user, model_id => 'm', prompt => 'p',
            provider => 'alpha' }, @_);
}

sub attempts {
    my ($job) = @_;
    return join ', ', map { join ' ', @$_ } @{ $pg->query(
        "SELECT number, provider, state FROM vidgen.attempts
        WHERE job_id = '$job' ORDER BY number") };
}

for my $way (@ways) {
    my ($name, %cut) = @$way;

    my $cuts = $proxy->stat->{cuts};
    my $cut = sub {
        my ($statement, $call) = @_;

        $proxy->cut($cut{within} ? (answer => $rows{$statement})
            : (%cut, statement => qr/$statement/));
        my $answer = $call->();
        $cuts += $cut{times} // 1;
        is($proxy->wait_cuts($cuts), 1, "$name: at $statement");
        return $answer;
    };

    $_->forget for $alpha, $beta;

    # begin

    my $answer = $cut->(vidgen_begin => sub { generate({
        'Idempotency-Key' => "key $name" }) });
    my $job = $answer->{json}{job_id} // '';
    is("$answer->{status} $answer->{json}{provider}", '200 alpha',
        "$name: begin is sent again");
    is(ledger($pg, $job) . ' ' . attempts($job), 'hold 1 1 alpha accepted',
        "$name: one hold, one attempt");

    # submitted

    $answer = $cut->(vidgen_submitted => \&generate);
    $job = $answer->{json}{job_id} // '';
    my $id = $alpha->requests->[1]{id};
    is_deeply([$answer->{status}, scalar @{ $alpha->requests },
        attempts($job)], [200, 2, '1 alpha accepted'],
        "$name: submitted is sent again, the provider is not asked again");

    # apply

    my @webhook = ('POST', $nginx->url('/video-webhook'),
        $alpha->signed_webhook(id => $id, status => 'failed'));
    $answer = $cut->(vidgen_apply => sub { request(@webhook) });
    is($answer->{body}, qq({"success":true,"job_id":"$job"}),
        "$name: apply is sent again");
    is(ledger($pg, $job), 'hold 1, refund 1', "$name: one refund");

    # next_attempt

    $alpha->next(status => 503);
    $answer = $cut->(vidgen_next_attempt => \&generate);
    $job = $answer->{json}{job_id} // '';
    is_deeply(["$answer->{status} $answer->{json}{provider}",
        scalar @{ $beta->requests }, attempts($job)],
        ['200 beta', 1, '1 alpha refused, 2 beta accepted'],
        "$name: moving on is sent again, with one effect");

    # abandon

    $alpha->next(status => 401);
    $answer = $cut->(vidgen_abandon => \&generate);
    $job = $answer->{json}{job_id} // '';
    is_deeply([$answer->{status}, attempts($job), ledger($pg, $job)],
        [502, '1 alpha refused', 'hold 1, refund 1'],
        "$name: abandon is sent again, with one refund");
}

is($pg->value('SELECT count(*) FROM video_jobs'), 4 * @ways, 'the jobs');
is_deeply([wrong_books($pg)], [], 'the books are right');
