#!/usr/bin/perl

# An acceptance cannot be recorded, because the database refuses the call or
# is not there.  What may be mended is waited for; but a worker that shuts
# down ends after a minute, and says what it could not record.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 15;
use Time::HiRes qw(time);

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(send_request wait_answer);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $minute = 60;                    # that an exit waits, in seconds

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $standin = VidgenTest::Provider->new;

my %db = (refused => $pg->edge_conninfo, absent => $proxy->conninfo);
my %nginx = map { $_ => VidgenTest::Edge->new(
    db       => $db{$_},
    database => 'timeout=3s',
    standins => { a => $standin })->start } sort keys %db;

my $user = customer($pg, 10);
my $function = $pg->value("SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'vidgen'::regnamespace AND proname = 'submitted'");

sub deny  { $pg->query("REVOKE EXECUTE ON FUNCTION $function
    FROM vidgen_edge") }
sub grant { $pg->query("GRANT EXECUTE ON FUNCTION $function TO vidgen_edge") }

# A generation at one of them, whose provider answers after $fail->().
sub generate {
    my ($name, $fail) = @_;

    $standin->forget_requests;
    $standin->next(wait => 1);
    my $call = send_request('POST', $nginx{$name}->url('/generate-video'), {},
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
    $standin->wait_requests(1) or die 'no request';
    $fail->();
    $standin->release;
    my $answer = wait_answer($call);
    is("$answer->{status} $answer->{json}{status}", '202 processing',
        "the database is $name: the client is told to wait");
    return $answer->{json}{job_id};
}

# The lines of a pattern in the log of one of them.
sub lines {
    my ($name, $pattern) = @_;
    return grep { /$pattern/ } split /\n/, $nginx{$name}->error_log;
}

my $refusal = qr/\[crit\].* the database refused a call \(42501\)/;

# while it serves

my $job = generate('refused', \&deny);
ok(wait_for { lines('refused', $refusal) >= 2 }, '... it is tried again');
grant();
ok(wait_for { attempts($pg, $job) eq 'a accepted 200 -' },
    '... and recorded once it may be');

# while it shuts down

my %job = (refused => generate('refused', \&deny),
    absent => generate('absent', sub { $proxy->refuse }));

my $begun = time;
kill QUIT => map { $_->pid } values %nginx;

for my $name (reverse sort keys %nginx) {
    ok($nginx{$name}->quit(2 * $minute), "$name: the worker ends");
    my $took = time - $begun;
    ok($took > $minute - 5 && $took < $minute + 30, '... after a minute')
        or diag("after $took s");
    my $what = qq(job "$job{$name}", provider "a", provider job "[^"]+");
    is(lines($name, qr/\[crit\].* could not be recorded: $what/), 1,
        '... says what is not recorded');
    is(attempts($pg, $job{$name}), 'a sending - -', '... and it is not');
}

cmp_ok(lines('refused', $refusal), '<', 30, 'the refusals are few');

grant();
is_deeply([wrong_books($pg)], [], 'the books are right');
