#!/usr/bin/perl

# Behind PgBouncer in transaction mode, where each call may run on another
# server connection: no prepared statements, the same results.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 13;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get many post send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(free_port patience reap slurp spawn spew wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0,
    settings => { log_statement => 'all' });
my $provider = VidgenTest::Provider->new;

# two server connections for four of nginx

my $port = free_port();
my $folder = $pg->dir . '/pgbouncer';
mkdir $folder;
chown((stat $pg->dir)[4, 5], $folder);
spew("$folder/users", qq("edge" "edge"\n));
spew("$folder/ini", <<"EOT");
[databases]
postgres = host=127.0.0.1 port=@{[$pg->port]} dbname=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = plain
auth_file = $folder/users
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
logfile = $folder/log
EOT

my @as_user = $> == 0 ? ('-u', (getpwuid((stat $pg->dir)[4]))[0]) : ();
my ($binary) = grep { -x } '/usr/sbin/pgbouncer',
    map { "$_/pgbouncer" } split /:/, $ENV{PATH};
my $bouncer = spawn([$binary // die("no pgbouncer\n"), @as_user,
    "$folder/ini"]);

END {
    if ($bouncer) {
        local $?;
        kill 'TERM', $bouncer;
        reap($bouncer);
    }
}

wait_for { (slurp("$folder/log") // '') =~ /process up/ }
    or die 'pgbouncer: ' . (slurp("$folder/log") // '');

my $nginx = VidgenTest::Edge->new(
    db       => "host=127.0.0.1 port=$port user=edge password=edge "
        . 'dbname=postgres',
    workers  => 2,
    fal      => $provider)->start;

sub statuses {
    my %count;
    $count{ $_->{status} }++ for @_;
    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}

my $user = customer($pg, 1000);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

is(statuses(many(100, @generate)), '200: 100', '100 generations');

$provider->next(status => 401) for 1 .. 10;
is(statuses(many(10, @generate)), '502: 10', 'ten refused ones');

my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_->{id}, status =>
        $_->{id} =~ /0$/ ? 'failed' : 'completed')] }
    grep { $_->{id} } @{ $provider->requests };
is(statuses(many(@webhooks, @webhooks)), '200: 200',
    'their webhooks, each twice');

is_deeply($pg->query('SELECT status, count(*) FROM video_jobs
    GROUP BY status ORDER BY status'),
    [['completed', 90], ['failed', 20]], 'what became of them');
my $job = $pg->value("SELECT id FROM video_jobs WHERE status = 'failed'");
is(get($nginx->url("/jobs/$job"))->{json}{status}, 'failed',
    'which can be read');

is($pg->value("SELECT count(*) FROM pg_stat_activity
    WHERE usename = 'edge'"), 2, 'over two server connections');
unlike($pg->log, qr/execute vidgen_/, 'no statement was prepared');
unlike($pg->log =~ s/ERROR:.*due to lock timeout//gr, qr/ERROR|FATAL/,
    'no error at the server but of a machine that is slow');

# a locked row, and no session that knows how long to wait for it

$provider->forget_requests;
many(20, @generate);
my ($blocked, @others) = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_->{id})] } @{ $provider->requests };
my $id = $provider->requests->[0]{id};
my $session = VidgenTest::Session->new($pg);
$session->run("BEGIN; SELECT FROM video_jobs WHERE provider_job_id = '$id'
    FOR UPDATE");
my $call = send_request(@$blocked);
my @answers = many(@others);
is(statuses(@answers), '200: 19', 'a locked row: the others are applied');
my ($slowest) = sort { $b <=> $a } map { $_->{time} } @answers;
cmp_ok($slowest, '<', 1.5 * patience(), 'soon');
ok(wait_for { $pg->log =~ /canceling statement due to lock timeout/ },
    'the one is tried in vain');
$session->run('COMMIT');
is(wait_answer($call)->{status}, 200, 'and applied when the row is free');

is_deeply([wrong_books($pg)], [], 'the books are right');
