#!/usr/bin/perl

# What fails only at the commit is not done: a deferred constraint trigger
# that raises there gives 503, although all rows had arrived before; the
# redelivery is applied once the trigger is gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(post request);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=20s',
    fal      => $provider)->start;

$pg->query(<<'SQL');
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not at this commit'; END $$;
SQL

sub trap {
    my ($event) = @_;
    $pg->query("CREATE CONSTRAINT TRIGGER trap AFTER $event
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()");
}

my $user = customer($pg, 10);
my %order = (user_id => $user, model_id => 'm', prompt => 'p');
sub generate { post($nginx->url('/generate-video'), \%order) }

my $job = generate()->{json}{job_id};
my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $provider->requests->[0]{id},
        status => 'failed', error => 'too dark'));

# a webhook

trap('UPDATE ON video_jobs');
my $before = everything($pg);
my $answer = request(@webhook);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'a webhook whose commit fails: 503');
is(everything($pg), $before, 'nothing has changed');
is(request(@webhook)->{status}, 503, 'again, the same');
is(everything($pg), $before, 'nothing');

$pg->query('DROP TRIGGER trap ON video_jobs');
$answer = request(@webhook);
is($answer->{body}, qq({"success":true,"job_id":"$job"}),
    'the redelivery is applied');
ok(!exists $answer->{headers}{'x-idempotent-replay'}, 'as no replay');
is(ledger($pg, $job), 'hold 1, refund 1', 'refunded once');
is($pg->value("SELECT status FROM video_jobs WHERE id = '$job'"), 'failed',
    'the job has failed');

# begin

trap('INSERT ON vidgen.attempts');
$before = everything($pg);
$answer = generate();
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'a generation whose begin fails at the commit: 503');
is(everything($pg), $before, 'nothing has changed');
is(@{ $provider->requests }, 1, 'the provider was not asked');
$pg->query('DROP TRIGGER trap ON vidgen.attempts');

# submitted: the provider has it, so it is never forgotten

trap('UPDATE ON vidgen.attempts');
$answer = generate();
is("$answer->{status} $answer->{json}{status}", '202 processing',
    'a generation whose record fails at the commit: 202');
$job = $answer->{json}{job_id};
my $id = $provider->requests->[1]{id};
like($nginx->wait_log(qr/\[crit\].*could not be recorded/),
    qr/job "$job", provider "fal.ai", provider job "\Q$id\E"/,
    'the log has what is needed');
is(ledger($pg, $job), 'hold 1', 'its credits stay held');
is($pg->value("SELECT state FROM vidgen.attempts WHERE job_id = '$job'"),
    'sending', 'its attempt is open');

$pg->query('DROP TRIGGER trap ON vidgen.attempts');
my ($hook) = $provider->requests->[1]{body} =~ /"(http:[^"]+)"/;
$answer = request('POST', $hook, $provider->signed_webhook(id => $id));
is($answer->{status}, 200, 'its webhook is applied');
is_deeply($pg->query("SELECT status, provider_job_id, video_url
    FROM video_jobs WHERE id = '$job'"),
    [['completed', $id, "https://cdn.test/$id.mp4"]], 'and completes it');

# abandon

trap('UPDATE ON vidgen.attempts');
$provider->next(status => 401);
$answer = generate();
is($answer->{status}, 504, 'a refusal whose record fails at the commit: 504');
$job = $answer->{json}{job_id};
is(ledger($pg, $job), 'hold 1', 'no refund is said or made');
$pg->query('DROP TRIGGER trap ON vidgen.attempts');

is(balance($pg, $user), 8, 'the balance');
is_deeply([wrong_books($pg)], [], 'the books are right');
