#!/usr/bin/perl

# PostgreSQL over TLS with sslmode=verify-full: the certificate must be of the
# authority and for the name that the connection string says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy qw(copy);
use Test::More;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Certificate;
use VidgenTest::Dns;
use VidgenTest::Edge;
use VidgenTest::Http qw(get many);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $certificate = VidgenTest::Certificate->new(
    names => ['DNS:localhost', 'DNS:db.test']);
my $stranger = VidgenTest::Certificate->new;
my $dns = VidgenTest::Dns->new(names => { 'db.test' => '127.0.0.1',
    'other.test' => '127.0.0.1' });

my $pg = VidgenTest::Postgres->new(fsync => 0, start => 0,
    settings => { ssl => 'on', ssl_cert_file => 'server.crt',
        ssl_key_file => 'server.key' });

my $data = $pg->dir . '/data';
my ($uid, $gid) = (stat $data)[4, 5];
for (['server.crt', $certificate->cert], ['server.key', $certificate->key]) {
    my ($name, $file) = @$_;
    copy($file, "$data/$name") or die "$file: $!";
    chown $uid, $gid, "$data/$name";
    chmod 0600, "$data/$name";
}
$pg->start;
$pg->migrate;

my @good = (
    ['its name by the resolver', 'db.test', $certificate],
    ['localhost, which no resolver knows', 'localhost', $certificate],
);
my @bad = (
    ['another name', 'other.test', $certificate, 'does not match host name'],
    ['an address', '127.0.0.1', $certificate, 'does not match host name'],
    ['another authority', 'db.test', $stranger, 'certificate verify failed'],
);

plan tests => 4 * @good + 2 * @bad + 1;

my $provider = VidgenTest::Provider->new;

sub start {
    my ($host, $authority, $timeout) = @_;
    return VidgenTest::Edge->new(
        db       => "host=$host port=" . $pg->port . ' user=edge password=edge'
            . ' dbname=postgres sslmode=verify-full sslrootcert='
            . $authority->ca,
        database => "timeout=$timeout",
        http     => 'resolver ' . $dns->address . ' ipv6=off;',
        fal      => $provider)->start;
}

sub statuses {
    my %count;
    $count{ $_->{status} }++ for @_;
    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}

for (@good) {
    my ($name, $host, $authority) = @$_;
    my $nginx = start($host, $authority, '20s');
    my $user = customer($pg, 100);
    $provider->forget;

    # enough for answers of several TLS records

    my $prompt = 'p' x 15000;
    is(statuses(many(100, 'POST', $nginx->url('/generate-video'), {},
        qq({"user_id":"$user","model_id":"m","prompt":"$prompt"}))),
        '200: 100', "$name: 100 generations");
    is($pg->value("SELECT count(*) FROM video_jobs WHERE user_id = '$user'
        AND length(prompt) = 15000"), 100, "$name: as they were sent");

    my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
        $provider->signed_webhook(id => $_->{id})] }
        @{ $provider->requests };
    is(statuses(many(@webhooks)), '200: 100', "$name: their webhooks");

    is_deeply($pg->query("SELECT ssl, count(*) FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE usename = 'edge'
        GROUP BY ssl"), [['t', 2]], "$name: over TLS");
    $nginx->destroy;
}

for (@bad) {
    my ($name, $host, $authority, $reason) = @$_;
    my $nginx = start($host, $authority, '2s');
    is(get($nginx->url('/jobs/' . '0' x 8 . '-0000' x 3 . '-' . '0' x 12))
        ->{status}, 503, "$name: 503");
    like($nginx->wait_log(qr/database is unreachable/), qr/\Q$reason\E/,
        "$name: the log says why");
    $nginx->destroy;
}

is_deeply([wrong_books($pg)], [], 'the books are right');
